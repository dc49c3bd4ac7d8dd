// CUDA kernel of mask_dot. A block makes a tile of 128 rows (layers x queries) by 128 pixels of an image.
#include "common/cuda_product.cuh"
#include "common/cuda_types.cuh"
#include "common/math.h"
#include "mask_dot/mask_dot_cuda.h"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = MaskDotCudaParams;

__device__ __forceinline__ float activated(MaskDotActivation activation, float logit) {
  switch (activation) {
    case MaskDotActivation::sigmoid:
      return sigmoid(logit);
    case MaskDotActivation::binary:
      return logit > 0.0f ? 1.0f : 0.0f;
    case MaskDotActivation::not_negative:
      return logit < 0.0f ? 0.0f : 1.0f;
    default:
      return logit;
  }
}

// The rows of the result, whose lines are queries of one layer after the other. Lines are asked for in rising order.
template <class T>
class Rows {
 public:
  __device__ Rows(const Params& p, int64_t image, const TilePlace& place)
      : pixels_(p.pixels), queries_(static_cast<int>(p.queries)), begin_(place.row_begin) {
    const int layer = begin_ / queries_;
    next_layer_ = (layer + 1) * queries_;
    step_ = (p.images - 1) * queries_ * pixels_;
    first_ = static_cast<T*>(p.out) + image * queries_ * pixels_ + place.column_begin + layer * step_;
  }
  __device__ __forceinline__ T* operator()(int y) {
    const int line = begin_ + y;
    while (line >= next_layer_) {
      next_layer_ += queries_;
      first_ += step_;
    }
    return first_ + line * pixels_;
  }

 private:
  T* first_;  // of line 0, if all layers were as far apart as the line's
  int64_t pixels_, step_;
  int queries_, begin_, next_layer_;
};

template <class Product, bool kChannelsLast, bool kAligned>
__global__ void __launch_bounds__(kTileThreads, kTileBlocks<Product>)
    mask_dot_kernel(Params p, bool embed_aligned, bool features_aligned) {
  using Storage = typename Product::Storage;
  const int rows = static_cast<int>(p.layers * p.queries), queries = static_cast<int>(p.queries);
  const int channels = static_cast<int>(p.channels);
  const TilePlace place = tile_place(tiles(rows), tiles(p.pixels));
  const int64_t image = place.matrix;
  const Storage* embed = static_cast<const Storage*>(p.embed) + image * p.queries * p.channels;
  const Storage* embed_end = embed + (p.layers - 1) * p.layer_stride + p.queries * p.channels;
  const TileOperand<Storage> first = {embed, embed_end, p.channels, 1, rows, embed_aligned};
  const auto second =
      tile_operand<Storage>(static_cast<const Storage*>(p.features) + image * p.image_stride, p.pixel_stride,
                            p.channel_stride, static_cast<int>(p.pixels), channels, features_aligned);
  using Tile = DotTile<Product, true, kChannelsLast, kAligned>;
  Tile tile;
  const auto row = [&](int line) { return embed + (line / queries) * p.layer_stride + (line % queries) * p.channels; };
  tile.run(first, second, row, place.row_begin, place.column_begin, 0, channels);
  const int columns = static_cast<int>(p.pixels) - place.column_begin;
  tile.for_patches([&](const auto& patch) {
    if (p.activation != MaskDotActivation::none) {
      patch.apply([&](float logit) { return activated(p.activation, logit); });
    }
    const auto write = [&](auto* out) {
      using T = std::remove_pointer_t<decltype(out)>;
      const TileStore store = {rows - place.row_begin, columns,
                               stores_fours(static_cast<const T*>(p.out), p.pixels, p.pixels)};
      store_patch(patch, store, Rows<T>(p, image, place));
    };
    switch (p.out_dtype) {
      case DType::float32:
        return write(static_cast<float*>(nullptr));
      case DType::bfloat16:
        return write(static_cast<__nv_bfloat16*>(nullptr));
      case DType::float16:
        return write(static_cast<__half*>(nullptr));
      default:
        return write(static_cast<uint8_t*>(nullptr));
    }
  });
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
    for_layout<Product>(channels_last, embed_aligned && features_aligned, [&](auto last, auto aligned) {
      launch(mask_dot_kernel<Product, last, aligned>, grid, kTileThreads, stream, params, embed_aligned,
             features_aligned);
    });
  });
}

}  // namespace maskformer_ext
