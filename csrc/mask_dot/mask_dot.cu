// CUDA kernel of mask_dot. A block makes a tile of 128 rows (layers x queries) by 128 pixels of an image.
#include "common/cuda_product.cuh"
#include "common/cuda_types.cuh"
#include "common/math.h"
#include "mask_dot/mask_dot_cuda.h"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = MaskDotCudaParams;

// Writes a tile's logits, or what the activation made of them.
template <class T, class Tile>
__device__ __forceinline__ void write(const Params& p, const Tile& tile, int64_t image, int row_begin,
                                      int column_begin) {
  const int rows = static_cast<int>(p.layers * p.queries), queries = static_cast<int>(p.queries);
  tile.for_pairs([&](int y, int x, float a, float b) {
    const int line = row_begin + y, pixel = column_begin + x;
    if (line >= rows || pixel >= p.pixels) return;
    const int64_t out_row = ((line / queries) * p.images + image) * p.queries + line % queries;
    store_pair(static_cast<T*>(p.out) + out_row * p.pixels + pixel, a, b, pixel + 1 < p.pixels);
  });
}

template <class Product, bool kChannelsLast>
__global__ void __launch_bounds__(kTileThreads, kTileBlocks<Product>)
    mask_dot_kernel(Params p, bool embed_aligned, bool features_aligned) {
  using Storage = typename Product::Storage;
  const int rows = static_cast<int>(p.layers * p.queries), queries = static_cast<int>(p.queries);
  const TilePlace place = tile_place(tiles(rows), tiles(p.pixels));
  const int row_begin = place.row_begin, column_begin = place.column_begin;
  const int64_t image = place.matrix;
  const Storage* embed = static_cast<const Storage*>(p.embed) + image * p.queries * p.channels;
  const TileOperand<Storage> first = {embed, p.channels, 1, rows, static_cast<int>(p.channels), embed_aligned};
  const TileOperand<Storage> second = {static_cast<const Storage*>(p.features) + image * p.image_stride,
                                       p.pixel_stride,
                                       p.channel_stride,
                                       static_cast<int>(p.pixels),
                                       static_cast<int>(p.channels),
                                       features_aligned};
  DotTile<Product, true, kChannelsLast> tile;
  const auto row = [&](int line) { return embed + (line / queries) * p.layer_stride + (line % queries) * p.channels; };
  tile.run(first, second, row, row_begin, column_begin, 0, static_cast<int>(p.channels));
  // One copy of each loop: the compiler would otherwise unroll every dtype and activation for every sum.
  if (p.activation == MaskDotActivation::sigmoid) {
    tile.apply([](float logit) { return sigmoid(logit); });
  } else if (p.activation == MaskDotActivation::binary) {
    tile.apply([](float logit) { return logit > 0.0f ? 1.0f : 0.0f; });
  } else if (p.activation == MaskDotActivation::not_negative) {
    tile.apply([](float logit) { return logit < 0.0f ? 0.0f : 1.0f; });
  }
  switch (p.out_dtype) {
    case DType::float32:
      return write<float>(p, tile, image, row_begin, column_begin);
    case DType::bfloat16:
      return write<__nv_bfloat16>(p, tile, image, row_begin, column_begin);
    case DType::float16:
      return write<__half>(p, tile, image, row_begin, column_begin);
    default:
      return write<uint8_t>(p, tile, image, row_begin, column_begin);
  }
}

}  // namespace
}  // namespace cuda

void mask_dot_cuda(const MaskDotCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  const int64_t rows = params.layers * params.queries;
  if (rows == 0 || params.images == 0 || params.pixels == 0) return;
  const unsigned grid = tiles(rows) * tiles(params.pixels) * static_cast<unsigned>(params.images);
  for_product(params.dtype, params.allow_tf32, [&](auto product) {
    using Product = decltype(product);
    using Storage = typename Product::Storage;
    const bool embed_aligned = reads_aligned<Storage>(params.embed, params.channels, params.layer_stride);
    const bool channels_last = params.channel_stride == 1 && params.pixel_stride != 1;
    const bool features_aligned =
        reads_aligned<Storage>(params.features, channels_last ? params.channels : params.pixels,
                               channels_last ? params.pixel_stride : params.channel_stride) &&
        params.image_stride % (16 / sizeof(Storage)) == 0;
    if (channels_last) {
      launch(mask_dot_kernel<Product, true>, grid, kTileThreads, stream, params, embed_aligned, features_aligned);
    } else {
      launch(mask_dot_kernel<Product, false>, grid, kTileThreads, stream, params, embed_aligned, features_aligned);
    }
  });
}

}  // namespace maskformer_ext
