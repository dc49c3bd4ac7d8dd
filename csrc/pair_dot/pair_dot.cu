// CUDA kernels of pair_dot. A tile has rows of one image, and is found on the device.
#include <algorithm>

#include "common/cuda_block.cuh"
#include "common/cuda_product.cuh"
#include "common/cuda_types.cuh"
#include "pair_dot/pair_dot_cuda.h"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = PairDotCudaParams;
constexpr int kThreads = 256;

// Finds begin[b], the first pair of an image from b on, and tile_begin[b], the first tile of its rows. Pairs of no
// image come last. One block.
__global__ void __launch_bounds__(kThreads) find_images_kernel(Params p) {
  const int images = static_cast<int>(p.images), pairs = static_cast<int>(p.pairs), layers = static_cast<int>(p.layers);
  for (int b = threadIdx.x; b <= images; b += kThreads) {
    int low = 0, high = pairs;
    while (low < high) {
      const int middle = (low + high) / 2;
      const int64_t image = p.image_index[middle];
      const bool before = image >= 0 && image < b;
      low = before ? middle + 1 : low;
      high = before ? high : middle;
    }
    p.begin[b] = low;
  }
  if (threadIdx.x == 0) {
    p.begin[images + 1] = pairs;
    p.tile_begin[0] = 0;
  }
  __syncthreads();
  if (threadIdx.x >= 32) return;
  const int lane = threadIdx.x;
  int before = 0;
  for (int first = 0; first <= images; first += 32) {
    const int b = first + lane;
    int sum = b <= images ? ((p.begin[b + 1] - p.begin[b]) * layers + kTileLines - 1) / kTileLines : 0;
    for (int by = 1; by < 32; by *= 2) {  // up to this lane
      const int other = __shfl_up_sync(kAllLanes, sum, by);
      sum += lane >= by ? other : 0;
    }
    sum += before;
    if (b <= images) p.tile_begin[b + 1] = sum;
    before = __shfl_sync(kAllLanes, sum, 31);
  }
}

// At least as many tiles as the images' rows need, whatever their distribution.
constexpr unsigned row_tiles(const Params& p) { return tiles(p.rows()) + static_cast<unsigned>(p.images); }

struct Rows {
  int image;  // == images: rows of no image
  int first, last;
};

// The rows of tile number `tile`, where tiles are counted image by image. All lanes of a warp call it.
__device__ Rows rows_of_tile(const Params& p, int tile) {
  const int images = static_cast<int>(p.images), lane = threadIdx.x % 32;
  int image = 0;  // the number of images whose tiles come before
  for (int first = 0; first <= images; first += 32) {
    const int b = first + lane;
    image += __popc(__ballot_sync(kAllLanes, b <= images && p.tile_begin[b + 1] <= tile));
  }
  const int layers = static_cast<int>(p.layers);
  return {image, p.begin[image] * layers + (tile - p.tile_begin[image]) * kTileLines, p.begin[image + 1] * layers};
}

// Calls body(rows, other) for this block's share of the tiles that have rows, times `others`. Only the device knows
// how many there are, so a grid has no more blocks than run at once.
template <class Body>
__device__ __forceinline__ void for_tiles(const Params& p, int64_t others, Body&& body) {
  const int count = p.tile_begin[p.images + 1];
  for (int64_t number = blockIdx.x; number < count * others; number += gridDim.x) {
    const auto other = static_cast<int>(number / count);
    body(rows_of_tile(p, static_cast<int>(number - int64_t{other} * count)), other);
    __syncthreads();  // shared memory may still be read
  }
}

template <class Storage>
__device__ const Storage* features_of(const Params& p, int64_t image) {
  return static_cast<const Storage*>(p.features) + image * p.image_stride;
}

template <class Product, bool kChannelsLast, bool kAligned>
__global__ void __launch_bounds__(kTileThreads, kTileBlocks<Product>)
    pair_dot_fwd_kernel(Params p, bool embed_aligned, bool features_aligned) {
  using Storage = typename Product::Storage;
  const int channels = static_cast<int>(p.channels), pixels = static_cast<int>(p.pixels);
  for_tiles(p, tiles(pixels), [&](const Rows& rows, int column_tile) {
    const bool exists = rows.image < p.images;
    const int column_begin = column_tile * kTileLines;
    const auto first = tile_operand<Storage>(p.embed, channels, 1, rows.last, channels, embed_aligned);
    const auto second = tile_operand<Storage>(features_of<Storage>(p, exists ? rows.image : 0), p.pixel_stride,
                                              p.channel_stride, pixels, channels, features_aligned);
    DotTile<Product, true, kChannelsLast, kAligned> tile;
    tile.run(first, second, rows.first, column_begin, 0, exists ? channels : 0);  // no term: zeros
    auto* logits = static_cast<ElementOf<Product>*>(p.logits);
    const TileStore store = {rows.last - rows.first, pixels - column_begin, stores_fours(logits, pixels, pixels)};
    logits += rows.first * p.pixels + column_begin;
    tile.for_patches(
        [&](const auto& patch) { store_patch(patch, store, [&](int y) { return logits + y * p.pixels; }); });
  });
}

// grad_features of an image is its embeddings, transposed, times its grad. Where they are channels-last, the product is
// formed transposed.
template <class Product, bool kAligned>
__global__ void __launch_bounds__(kTileThreads, kTileBlocks<Product>)
    grad_features_kernel(Params p, bool embed_aligned, bool grad_aligned) {
  using Storage = typename Product::Storage;
  const int channels = static_cast<int>(p.channels), pixels = static_cast<int>(p.pixels);
  const TilePlace place = tile_place(tiles(channels), tiles(pixels));
  const int64_t image = place.matrix;
  const int begin = p.begin[image] * static_cast<int>(p.layers), end = p.begin[image + 1] * static_cast<int>(p.layers);
  const bool transposed = pixels > 1 && p.grad_pixel_stride != 1;
  const int rows = transposed ? pixels : channels, columns = transposed ? channels : pixels;
  const int row_begin = transposed ? place.column_begin : place.row_begin;
  const int column_begin = transposed ? place.row_begin : place.column_begin;
  const int64_t row_stride = transposed ? p.grad_pixel_stride : p.grad_channel_stride;
  const auto first = tile_operand<Storage>(transposed ? p.grad : p.embed, 1, rows, rows, end,
                                           transposed ? grad_aligned : embed_aligned);
  const auto second = tile_operand<Storage>(transposed ? p.embed : p.grad, 1, columns, columns, end,
                                            transposed ? embed_aligned : grad_aligned);
  DotTile<Product, false, false, kAligned> tile;
  tile.run(first, second, row_begin, column_begin, begin, end);
  auto* to = static_cast<ElementOf<Product>*>(p.grad_features) + image * p.grad_image_stride;
  const TileStore store = {rows - row_begin, columns - column_begin, stores_fours(to, columns, row_stride)};
  to += row_begin * row_stride + column_begin;
  tile.for_patches([&](const auto& patch) { store_patch(patch, store, [&](int y) { return to + y * row_stride; }); });
}

// How many blocks of the next kernel fit on a multiprocessor. With two, TF32 would spill on sm_80.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
template <class Product>
constexpr int kEmbedBlocks = std::is_same_v<Product, TF32Product> ? 1 : kTileBlocks<Product>;
#else
template <class Product>
constexpr int kEmbedBlocks = kTileBlocks<Product>;
#endif

// Sums of grad times features over a part of the pixels.
template <class Product, bool kChannelsLast, bool kAligned>
__global__ void __launch_bounds__(kTileThreads, kEmbedBlocks<Product>)
    grad_embed_kernel(Params p, bool grad_aligned, bool features_aligned) {
  using Storage = typename Product::Storage;
  const int channels = static_cast<int>(p.channels), pixels = static_cast<int>(p.pixels);
  const int channel_tiles = static_cast<int>(tiles(channels)), part_pixels = static_cast<int>(p.part_pixels);
  for_tiles(p, channel_tiles * p.parts(), [&](const Rows& rows, int other) {
    const int part = other / channel_tiles, column_begin = other % channel_tiles * kTileLines;
    const bool exists = rows.image < p.images;
    const auto first = tile_operand<Storage>(p.grad, pixels, 1, rows.last, pixels, grad_aligned);
    const auto second = tile_operand<Storage>(features_of<Storage>(p, exists ? rows.image : 0), p.channel_stride,
                                              p.pixel_stride, channels, pixels, features_aligned);
    const int begin = part * part_pixels;
    DotTile<Product, true, !kChannelsLast, kAligned> tile;
    tile.run(first, second, rows.first, column_begin, begin, exists ? min(begin + part_pixels, pixels) : begin);
    float* partial = p.partial + part * p.rows() * p.channels;
    const TileStore store = {rows.last - rows.first, channels - column_begin,
                             stores_fours(partial, channels, channels)};
    partial += rows.first * p.channels + column_begin;
    tile.for_patches(
        [&](const auto& patch) { store_patch(patch, store, [&](int y) { return partial + y * p.channels; }); });
  });
}

template <class Element>
__global__ void __launch_bounds__(kThreads) add_parts_kernel(Params p) {
  const int64_t count = p.rows() * p.channels;
  auto* grad = static_cast<Element*>(p.grad_embed);
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < count; i += int64_t{gridDim.x} * kThreads) {
    float sum = p.partial[i];
    for (int64_t part = 1; part < p.parts(); ++part) sum += p.partial[part * count + i];
    assign(grad[i], sum);
  }
}

// Whether each operand allows reads of 16 bytes.
template <class Storage>
struct Aligned {
  bool embed, features, grad;

  explicit Aligned(const Params& p)
      : embed(reads_aligned<Storage>(p.embed, p.channels, p.channels)),
        features(reads_aligned<Storage>(p.features, channels_last(p) ? p.channels : p.pixels,
                                        channels_last(p) ? p.pixel_stride : p.channel_stride) &&
                 p.image_stride % (16 / sizeof(Storage)) == 0),
        grad(reads_aligned<Storage>(p.grad, p.pixels, p.pixels)) {}

  static bool channels_last(const Params& p) { return p.channel_stride == 1 && p.pixel_stride != 1; }
};

// How many blocks of a kernel run at once, or as many as have work.
template <class Product>
unsigned resident_blocks(int64_t most) {
  return static_cast<unsigned>(std::min<int64_t>(most, int64_t{kTileBlocks<Product>} * multiprocessors()));
}

}  // namespace
}  // namespace cuda

int64_t pair_dot_part_pixels(const PairDotCudaParams& params) {
  const int64_t blocks = int64_t{cuda::row_tiles(params)} * cuda::tiles(params.channels);
  constexpr int64_t wanted_blocks = 264, least_pixels = 512;  // two a multiprocessor of a large GPU
  const int64_t parts =
      std::max<int64_t>(1, std::min((wanted_blocks + blocks - 1) / blocks, params.pixels / least_pixels));
  return ((params.pixels + parts - 1) / parts / 64 + 1) * 64;
}

void pair_dot_fwd_cuda(const PairDotCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  if (params.rows() == 0 || params.pixels == 0) return;
  launch(find_images_kernel, 1, kThreads, stream, params);
  for_product(params.dtype, params.allow_tf32, [&](auto product) {
    using Product = decltype(product);
    const Aligned<typename Product::Storage> aligned(params);
    const unsigned grid = resident_blocks<Product>(int64_t{row_tiles(params)} * tiles(params.pixels));
    for_layout<Product>(aligned.channels_last(params), aligned.embed && aligned.features, [&](auto last, auto all) {
      launch(pair_dot_fwd_kernel<Product, last, all>, grid, kTileThreads, stream, params, aligned.embed,
             aligned.features);
    });
  });
}

void pair_dot_bwd_cuda(const PairDotCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  if (params.images == 0 || params.channels == 0 || params.pixels == 0) return;
  launch(find_images_kernel, 1, kThreads, stream, params);
  const unsigned channel_tiles = tiles(params.channels);
  for_product(params.dtype, params.allow_tf32, [&](auto product) {
    using Product = decltype(product);
    const Aligned<typename Product::Storage> aligned(params);
    const unsigned feature_tiles = channel_tiles * tiles(params.pixels) * static_cast<unsigned>(params.images);
    for_layout<Product>(false, aligned.embed && aligned.grad, [&](auto, auto all) {
      launch(grad_features_kernel<Product, all>, feature_tiles, kTileThreads, stream, params, aligned.embed,
             aligned.grad);
    });
    if (params.rows() == 0) return;
    const unsigned grid = resident_blocks<Product>(int64_t{row_tiles(params)} * channel_tiles * params.parts());
    for_layout<Product>(aligned.channels_last(params), aligned.grad && aligned.features, [&](auto last, auto all) {
      launch(grad_embed_kernel<Product, last, all>, grid, kTileThreads, stream, params, aligned.grad, aligned.features);
    });
    const int64_t count = params.rows() * params.channels;
    launch(add_parts_kernel<ElementOf<Product>>,
           static_cast<unsigned>(std::min<int64_t>((count + kThreads - 1) / kThreads, 4096)), kThreads, stream, params);
  });
}

}  // namespace maskformer_ext
