// CUDA kernels of pair_dot. A tile has rows of one image, and is found on the device.
#include <algorithm>

#include "common/cuda_product.cuh"
#include "common/cuda_types.cuh"
#include "pair_dot/pair_dot_cuda.h"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = PairDotCudaParams;
constexpr int kThreads = 256;

// Finds begin[b], the first pair of an image from b on. Pairs of no image come last.
__global__ void __launch_bounds__(kThreads) find_images_kernel(Params p) {
  for (int64_t b = blockIdx.x * int64_t{kThreads} + threadIdx.x; b <= p.images; b += int64_t{gridDim.x} * kThreads) {
    int low = 0, high = static_cast<int>(p.pairs);
    while (low < high) {
      const int middle = (low + high) / 2;
      const int64_t image = p.image_index[middle];
      const bool before = image >= 0 && image < b;
      low = before ? middle + 1 : low;
      high = before ? high : middle;
    }
    p.begin[b] = low;
  }
}

// At least as many tiles as the images' rows need, whatever their distribution.
constexpr unsigned row_tiles(const Params& p) { return tiles(p.rows()) + static_cast<unsigned>(p.images); }

struct Rows {
  int image;  // == images: rows of no image
  int first, last;
};

// The rows of tile number `tile`, where tiles are counted image by image. first == last where there is none.
__device__ Rows rows_of_tile(const Params& p, int tile) {
  for (int image = 0; image <= p.images; ++image) {
    const int layers = static_cast<int>(p.layers);
    const int first = p.begin[image] * layers;
    const int last = (image < p.images ? p.begin[image + 1] : static_cast<int>(p.pairs)) * layers;
    const int tiles = (last - first + kTileLines - 1) / kTileLines;
    if (tile < tiles) return {image, first + tile * kTileLines, last};
    tile -= tiles;
  }
  return {0, 0, 0};
}

template <class Storage>
__device__ const Storage* features_of(const Params& p, int64_t image) {
  return static_cast<const Storage*>(p.features) + image * p.image_stride;
}

template <class Product, bool kChannelsLast>
__global__ void __launch_bounds__(kTileThreads, kTileBlocks<Product>)
    pair_dot_fwd_kernel(Params p, bool embed_aligned, bool features_aligned) {
  using Storage = typename Product::Storage;
  const Rows rows = rows_of_tile(p, static_cast<int>(blockIdx.x % row_tiles(p)));
  const int column_begin = static_cast<int>(blockIdx.x / row_tiles(p)) * kTileLines;
  const int channels = static_cast<int>(p.channels);
  if (rows.first >= rows.last) return;
  const bool exists = rows.image < p.images;
  const Storage* embed = static_cast<const Storage*>(p.embed);
  const TileOperand<Storage> first = {embed, channels, 1, rows.last, channels, embed_aligned};
  const TileOperand<Storage> second = {features_of<Storage>(p, exists ? rows.image : 0),
                                       p.pixel_stride,
                                       p.channel_stride,
                                       static_cast<int>(p.pixels),
                                       channels,
                                       features_aligned};
  DotTile<Product, true, kChannelsLast> tile;
  tile.run(first, second, rows.first, column_begin, 0, exists ? channels : 0);  // no term: zeros
  auto* logits = static_cast<ElementOf<Product>*>(p.logits);
  tile.for_pairs([&](int y, int x, float a, float b) {
    const int row = rows.first + y, pixel = column_begin + x;
    if (row >= rows.last || pixel >= p.pixels) return;
    store_pair(logits + row * p.pixels + pixel, a, b, pixel + 1 < p.pixels);
  });
}

// grad_features of an image is its embeddings, transposed, times its grad.
template <class Product>
__global__ void __launch_bounds__(kTileThreads, kTileBlocks<Product>)
    grad_features_kernel(Params p, bool embed_aligned, bool grad_aligned) {
  using Storage = typename Product::Storage;
  const TilePlace place = tile_place(tiles(p.channels), tiles(p.pixels));
  const int row_begin = place.row_begin, column_begin = place.column_begin;
  const int64_t image = place.matrix;
  const int channels = static_cast<int>(p.channels), pixels = static_cast<int>(p.pixels);
  const int begin = p.begin[image] * static_cast<int>(p.layers), end = p.begin[image + 1] * static_cast<int>(p.layers);
  const TileOperand<Storage> first = {static_cast<const Storage*>(p.embed), 1, channels, channels, end, embed_aligned};
  const TileOperand<Storage> second = {static_cast<const Storage*>(p.grad), 1, pixels, pixels, end, grad_aligned};
  DotTile<Product, false, false> tile;
  tile.run(first, second, row_begin, column_begin, begin, end);
  using Element = ElementOf<Product>;
  auto* grad = static_cast<Element*>(p.grad_features) + image * p.grad_image_stride;
  tile.for_pairs([&](int y, int x, float a, float b) {
    const int channel = row_begin + y, pixel = column_begin + x;
    if (channel >= channels || pixel >= pixels) return;
    Element* to = grad + channel * p.grad_channel_stride + pixel * p.grad_pixel_stride;
    if (p.grad_pixel_stride == 1) return store_pair(to, a, b, pixel + 1 < pixels);
    assign(to[0], a);
    if (pixel + 1 < pixels) assign(to[p.grad_pixel_stride], b);
  });
}

// Sums of grad times features over a part of the pixels.
template <class Product, bool kChannelsLast>
__global__ void __launch_bounds__(kTileThreads, kTileBlocks<Product>)
    grad_embed_kernel(Params p, bool grad_aligned, bool features_aligned) {
  using Storage = typename Product::Storage;
  const Rows rows = rows_of_tile(p, blockIdx.x);
  const int column_begin = blockIdx.y * kTileLines, channels = static_cast<int>(p.channels);
  const int pixels = static_cast<int>(p.pixels);
  if (rows.first >= rows.last) return;
  const bool exists = rows.image < p.images;
  const TileOperand<Storage> first = {static_cast<const Storage*>(p.grad), pixels, 1, rows.last, pixels, grad_aligned};
  const TileOperand<Storage> second = {features_of<Storage>(p, exists ? rows.image : 0),
                                       p.channel_stride,
                                       p.pixel_stride,
                                       channels,
                                       pixels,
                                       features_aligned};
  const int part_pixels = static_cast<int>(p.part_pixels), begin = static_cast<int>(blockIdx.z) * part_pixels;
  DotTile<Product, true, !kChannelsLast> tile;
  tile.run(first, second, rows.first, column_begin, begin, exists ? min(begin + part_pixels, pixels) : begin);
  float* partial = p.partial + blockIdx.z * p.rows() * p.channels;
  tile.for_pairs([&](int y, int x, float a, float b) {
    const int row = rows.first + y, channel = column_begin + x;
    if (row >= rows.last || channel >= channels) return;
    store_pair(partial + row * p.channels + channel, a, b, channel + 1 < channels);
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

unsigned find_images(const Params& p, CUstream_st* stream) {
  launch(find_images_kernel, static_cast<unsigned>(p.images / kThreads + 1), kThreads, stream, p);
  return row_tiles(p);
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
  const unsigned grid = find_images(params, stream) * tiles(params.pixels);
  for_product(params.dtype, params.allow_tf32, [&](auto product) {
    using Product = decltype(product);
    const Aligned<typename Product::Storage> aligned(params);
    const auto kernel =
        aligned.channels_last(params) ? pair_dot_fwd_kernel<Product, true> : pair_dot_fwd_kernel<Product, false>;
    launch(kernel, grid, kTileThreads, stream, params, aligned.embed, aligned.features);
  });
}

void pair_dot_bwd_cuda(const PairDotCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  if (params.images == 0 || params.channels == 0 || params.pixels == 0) return;
  const unsigned row_tiles = find_images(params, stream), channel_tiles = tiles(params.channels);
  for_product(params.dtype, params.allow_tf32, [&](auto product) {
    using Product = decltype(product);
    const Aligned<typename Product::Storage> aligned(params);
    const unsigned feature_tiles = channel_tiles * tiles(params.pixels) * static_cast<unsigned>(params.images);
    launch(grad_features_kernel<Product>, feature_tiles, kTileThreads, stream, params, aligned.embed, aligned.grad);
    if (params.rows() == 0) return;
    const auto kernel =
        aligned.channels_last(params) ? grad_embed_kernel<Product, true> : grad_embed_kernel<Product, false>;
    launch(kernel, dim3(row_tiles, channel_tiles, static_cast<unsigned>(params.parts())), kTileThreads, stream, params,
           aligned.grad, aligned.features);
    const int64_t count = params.rows() * params.channels;
    launch(add_parts_kernel<ElementOf<Product>>,
           static_cast<unsigned>(std::min<int64_t>((count + kThreads - 1) / kThreads, 4096)), kThreads, stream, params);
  });
}

}  // namespace maskformer_ext
