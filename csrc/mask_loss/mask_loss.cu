// CUDA kernels of mask_loss and matched_mask_loss, forward and backward.
#include "common/cuda_block.cuh"
#include "common/cuda_types.cuh"
#include "common/math.h"
#include "dice_loss/dice_from_sums.h"
#include "mask_loss/mask_loss_cuda.h"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = MaskLossCudaParams;
constexpr int kThreads = Params::kThreads;
constexpr int kStripRows = Params::kStripRows;
constexpr int kPiece = 512;  // pixels of a target row that are in shared memory at once
constexpr int kMaps = 3;
constexpr int kSums = kMaskLossSums;

// Bilinear resizing with half-pixel centres, clamped at both ends: out = (1 - weight) in[lower] + weight in[upper].
struct Tap {
  int lower, upper;
  float weight;
};

// The binding makes sure that 2 * in_size * out_size is below 2^31. A 64-bit division would be a call.
__device__ __forceinline__ Tap tap_of(int out, int in_size, int out_size, float unit) {
  const int position = (2 * out + 1) * in_size - out_size;  // in units of 1 / (2 * out_size), which is `unit`
  if (position <= 0) return {0, in_size > 1 ? 1 : 0, 0.0f};
  const int lower = static_cast<int>(static_cast<unsigned>(position) / static_cast<unsigned>(2 * out_size));
  if (lower >= in_size - 1) return {in_size - 1, in_size - 1, 0.0f};
  return {lower, lower + 1, static_cast<float>(position - 2 * out_size * lower) * unit};
}

// A weighted mean of two neighbours. 0 times an infinite one would be NaN where nothing is resized.
__device__ __forceinline__ float blend(float lower, float upper, float upper_weight) {
  return upper_weight == 0.0f ? lower : (1.0f - upper_weight) * lower + upper_weight * upper;
}

// The first output whose lower sample is `sample` or a later one, or the end where there is none.
__device__ __forceinline__ int first_with_lower(int sample, int in_size, int out_size) {
  if (sample <= 0) return 0;
  if (sample >= in_size) return out_size;
  const auto least = static_cast<unsigned>((2 * sample + 1) * out_size);  // (2 x + 1) * in_size must reach it
  const auto x = static_cast<int>((least + static_cast<unsigned>(in_size) - 1) / static_cast<unsigned>(in_size) / 2);
  return x < out_size ? x : out_size;
}

// The target that a mask is compared with. There is none where its image or segment does not exist.
struct Target {
  bool paired;
  int64_t image, segment;
  int64_t plane;  // offset of its first element
};

__device__ Target target_of(const Params& p, int mask) {
  Target target = {true, 0, mask, mask * p.target_plane_stride};
  if (p.image_index == nullptr) return target;
  target.image = p.image_index[mask];
  target.segment = p.segment_index[mask];
  target.paired = target.image >= 0 && target.image < p.images && target.segment >= 0 &&
                  target.segment < p.num_segments[target.image] && (p.is_map || target.segment < p.segments);
  target.plane = target.image * p.target_image_stride + (p.is_map ? 0 : target.segment * p.target_plane_stride);
  return target;
}

struct Pixel {
  float value;  // of the target, between 0 and 1
  bool counts;
};

__device__ __forceinline__ Pixel target_pixel(const Params& p, const Target& target, int y, int x) {
  const int64_t place = target.plane + y * p.target_row_stride + x;
  Pixel pixel = {0.0f, true};
  if (p.is_map) {
    const int64_t id =
        p.wide ? static_cast<const int32_t*>(p.targets)[place] : static_cast<const int16_t*>(p.targets)[place];
    pixel.value = id == target.segment ? 1.0f : 0.0f;
    pixel.counts = !p.ignore_void || (id >= 0 && id < p.num_segments[target.image]);
    return pixel;
  }
  if (p.target_dtype == DType::uint8) {
    pixel.value = static_cast<const uint8_t*>(p.targets)[place] != 0 ? 1.0f : 0.0f;
  } else if (p.target_dtype == DType::float32) {
    pixel.value = static_cast<const float*>(p.targets)[place];
  } else if (p.target_dtype == DType::bfloat16) {
    pixel.value = as_float(static_cast<const __nv_bfloat16*>(p.targets)[place]);
  } else {
    pixel.value = as_float(static_cast<const __half*>(p.targets)[place]);
  }
  if (p.void_pixels != nullptr) {
    pixel.counts = p.void_pixels[(target.image * p.target_height + y) * p.target_width + x] == 0;
  }
  return pixel;
}

struct Evaluated {
  float focal, wrong, wrong_inside;
  float grad[kMaps];
};

template <Gamma mode>
__device__ __forceinline__ Evaluated evaluate_as(const Params& p, float v, float t) {
  Evaluated e;
  if (t == 0.0f || t == 1.0f) {  // the sign flipped where the target is 1, both classes are one expression
    const bool inside = t == 1.0f;
    const Logistic<float> l = logistic(inside ? -v : v);
    const FocalTerm<float> focal = focal_wrong<mode>(l, p.gamma);
    const float weight = inside ? p.alpha_inside : p.alpha_outside;
    const float slope = l.sigmoid * l.sigmoid_complement;
    e.focal = weight * focal.loss;
    e.wrong = l.sigmoid;
    e.wrong_inside = inside ? l.sigmoid : 0.0f;
    e.grad[0] = inside ? -weight * focal.grad : weight * focal.grad;
    e.grad[1] = inside ? slope : 0.0f;
    e.grad[2] = slope;
    return e;
  }
  const Logistic<float> l = logistic(v);
  const SoftPixel<float> soft = soft_pixel<mode>(l, t, p.alpha_inside, p.alpha_outside, p.gamma);
  const float slope = l.sigmoid * l.sigmoid_complement;
  e.focal = soft.loss;
  e.wrong = soft.missing + soft.excess;
  e.wrong_inside = soft.missing;
  e.grad[0] = soft.grad;
  e.grad[1] = slope * t;
  e.grad[2] = slope;
  return e;
}

// gamma is the same for all threads, so the branch costs nothing.
__device__ __forceinline__ Evaluated evaluate(const Params& p, float v, float t) {
  if (p.gamma == 2.0f) return evaluate_as<Gamma::two>(p, v, t);
  if (p.gamma == 0.0f) return evaluate_as<Gamma::zero>(p, v, t);
  return evaluate_as<Gamma::general>(p, v, t);
}

// A thread's column of the maps while a strip is swept: sums for the current row and the one below it.
struct Column {
  float* maps;   // of the mask, at the thread's column
  float* edges;  // of the strip, at the thread's column
  int64_t map_stride, row_stride;
  int first_row, end_row, height;
  int row;
  float here[kMaps], below[kMaps];

  __device__ void write(int y, const float* values) const {
    if (y >= height) return;
    for (int map = 0; map < kMaps; ++map) {
      if (y < end_row) {
        maps[map * map_stride + y * row_stride] = values[map];
      } else {
        edges[map * row_stride] = values[map];
      }
    }
  }
  __device__ void clear() {
    for (int map = 0; map < kMaps; ++map) here[map] = below[map] = 0.0f;
    for (int y = first_row; y <= end_row; ++y) write(y, here);
    row = first_row;
  }
  __device__ void move_to(int y) {
    if (y == row) return;
    write(row, here);
    if (y > row + 1) write(row + 1, below);
    for (int map = 0; map < kMaps; ++map) {
      here[map] = y == row + 1 ? below[map] : 0.0f;
      below[map] = 0.0f;
    }
    row = y;
  }
  __device__ void finish() const {
    write(row, here);
    write(row + 1, below);
  }
};

template <class Logit, bool kGrad>
__global__ void __launch_bounds__(kThreads, 4) mask_loss_sweep_kernel(Params p) {
  MASKFORMER_EXT_SHARED(float, grad0, kPiece);
  MASKFORMER_EXT_SHARED(float, grad1, kPiece);
  MASKFORMER_EXT_SHARED(float, grad2, kPiece);
  MASKFORMER_EXT_SHARED(float, weights, kPiece);
  MASKFORMER_EXT_SHARED(int, lowers, kPiece);
  const int strips = p.strips(), chunks = p.chunks();
  const int chunk = blockIdx.x % chunks, strip = blockIdx.x / chunks % strips;
  const int mask = static_cast<int>(blockIdx.x / (static_cast<unsigned>(chunks) * strips));
  const int tid = threadIdx.x, column = chunk * kThreads + tid;
  const Target target = target_of(p, mask);
  const auto* logits = static_cast<const Logit*>(p.logits) + mask * p.logits_mask_stride;

  Column own = {};
  const bool has_column = kGrad && column < p.width;
  if (has_column) {
    own.map_stride = int64_t{p.height} * p.width;
    own.row_stride = p.width;
    own.maps = p.maps + mask * kMaps * own.map_stride + column;
    own.edges = p.edges + (int64_t{mask} * strips + strip) * kMaps * p.width + column;
    own.first_row = strip * kStripRows;
    own.end_row = min(own.first_row + kStripRows, p.height);
    own.height = p.height;
    own.clear();
  }
  double sums[kSums] = {};
  if (target.paired) {
    // The pixels that the chunk's columns take part in. A pixel whose lower sample lies in another chunk is not counted
    // here.
    const int first_column = chunk * kThreads, end_column = min(first_column + kThreads, p.width);
    const int begin_x = first_with_lower(first_column - 1, p.width, p.target_width);
    const int end_x = first_with_lower(end_column, p.width, p.target_width);
    const int my_begin = first_with_lower(column - 1, p.width, p.target_width);
    const int my_end = first_with_lower(column + 1, p.width, p.target_width);
    const int begin_y = first_with_lower(strip * kStripRows, p.height, p.target_height);
    const int end_y = first_with_lower((strip + 1) * kStripRows, p.height, p.target_height);
    for (int y = begin_y; y < end_y; ++y) {
      const Tap row = tap_of(y, p.height, p.target_height, p.row_unit);
      const Logit* lower_row = logits + row.lower * p.logits_row_stride;
      const Logit* upper_row = logits + row.upper * p.logits_row_stride;
      const float lower_weight = 1.0f - row.weight;
      if (has_column) own.move_to(row.lower);
      float part[kSums] = {};
      for (int piece = begin_x; piece < end_x; piece += kPiece) {
        const int piece_end = min(piece + kPiece, end_x);
        if (kGrad) __syncthreads();  // the piece before is no longer read
        for (int x = piece + tid; x < piece_end; x += kThreads) {
          const Tap tap = tap_of(x, p.width, p.target_width, p.column_unit);
          const float left = blend(as_float(lower_row[tap.lower]), as_float(upper_row[tap.lower]), row.weight);
          const float right = blend(as_float(lower_row[tap.upper]), as_float(upper_row[tap.upper]), row.weight);
          const Pixel pixel = target_pixel(p, target, y, x);
          // a very negative logit with target 0 adds nothing to any sum, nor to a gradient
          const float v = pixel.counts ? blend(left, right, tap.weight) : -1e30f;
          const float t = pixel.counts ? pixel.value : 0.0f;
          const Evaluated e = evaluate(p, v, t);
          if (tap.lower >= first_column) {
            part[kSumFocal] += e.focal;
            part[kSumWrong] += e.wrong;
            part[kSumWrongInside] += e.wrong_inside;
            part[kSumInside] += t;
            part[kSumPixels] += pixel.counts ? 1.0f : 0.0f;
          }
          if (kGrad) {
            grad0[x - piece] = e.grad[0];
            grad1[x - piece] = e.grad[1];
            grad2[x - piece] = e.grad[2];
            weights[x - piece] = tap.weight;
            lowers[x - piece] = tap.lower;
          }
        }
        if (!kGrad) continue;
        __syncthreads();
        if (!has_column) continue;
        float gathered[kMaps] = {};
        for (int x = max(my_begin, piece); x < min(my_end, piece_end); ++x) {
          const float upper_weight = weights[x - piece];
          const float weight = lowers[x - piece] == column ? 1.0f - upper_weight : upper_weight;
          if (weight == 0.0f) continue;  // a gradient may be infinite
          gathered[0] += weight * grad0[x - piece];
          gathered[1] += weight * grad1[x - piece];
          gathered[2] += weight * grad2[x - piece];
        }
        for (int map = 0; map < kMaps; ++map) {
          own.here[map] += lower_weight * gathered[map];
          own.below[map] += row.weight == 0.0f ? 0.0f : row.weight * gathered[map];
        }
      }
      for (int i = 0; i < kSums; ++i) sums[i] += part[i];
    }
    if (has_column) own.finish();
  }
  for (int i = 0; i < kSums; ++i) {
    const double total = block_reduce<kThreads>(sums[i], Add());
    if (tid == 0) p.sums[int64_t{blockIdx.x} * kSums + i] = total;
  }
}

// Combines a mask's blocks, in an order that depends on their number only.
__global__ void __launch_bounds__(kThreads) mask_loss_finish_kernel(Params p) {
  const int mask = blockIdx.x;
  const int strips = p.strips(), chunks = p.chunks();
  if (p.maps != nullptr) {
    const int64_t map_stride = int64_t{p.height} * p.width;
    for (int i = threadIdx.x; i < (strips - 1) * kMaps * p.width; i += kThreads) {
      const int strip = i / (kMaps * p.width), map = i / p.width % kMaps, x = i % p.width;
      const int y = (strip + 1) * kStripRows;
      p.maps[(int64_t{mask} * kMaps + map) * map_stride + int64_t{y} * p.width + x] +=
          p.edges[((int64_t{mask} * strips + strip) * kMaps + map) * p.width + x];
    }
  }
  double sum[kSums] = {};
  for (int block = threadIdx.x; block < strips * chunks; block += kThreads) {
    for (int i = 0; i < kSums; ++i) sum[i] += p.sums[(int64_t{mask} * strips * chunks + block) * kSums + i];
  }
  for (int i = 0; i < kSums; ++i) sum[i] = block_reduce<kThreads>(sum[i], Add());
  if (threadIdx.x != 0) return;
  const bool paired = target_of(p, mask).paired;
  const double pixels = sum[kSumPixels] < 1.0 ? 1.0 : sum[kSumPixels];
  const Dice dice = dice_from_sums(sum[kSumWrong], sum[kSumWrongInside], sum[kSumInside]);
  p.focal[mask] = paired ? static_cast<float>(sum[kSumFocal] / pixels) : 0.0f;
  p.dice[mask] = paired ? dice.loss : 0.0f;
  p.coefficients[kMaps * mask] = paired ? static_cast<float>(1.0 / pixels) : 0.0f;
  p.coefficients[kMaps * mask + 1] = paired ? dice.factor_inside : 0.0f;
  p.coefficients[kMaps * mask + 2] = paired ? dice.factor_all : 0.0f;
}

template <class T>
__global__ void __launch_bounds__(256) mask_loss_bwd_kernel(MaskLossGradParams p) {
  const int64_t mask = blockIdx.x;
  const float* coefficients = p.coefficients + kMaps * mask;
  const bool paired = coefficients[0] != 0.0f || coefficients[1] != 0.0f;  // else zero, whatever arrives
  const float focal = paired && p.grad_focal != nullptr ? p.grad_focal[mask] * coefficients[0] : 0.0f;
  const float dice = paired && p.grad_dice != nullptr ? p.grad_dice[mask] : 0.0f;
  const float inside = dice * coefficients[1], all = dice * coefficients[2];
  const float* maps = p.maps + mask * kMaps * p.pixels;
  T* grad = static_cast<T*>(p.grad_logits) + mask * p.pixels;
  for (int64_t i = blockIdx.y * int64_t{256} + threadIdx.x; i < p.pixels; i += int64_t{gridDim.y} * 256) {
    const float of_dice = inside * maps[p.pixels + i] + all * maps[2 * p.pixels + i];
    const float value = p.grad_focal != nullptr ? focal * maps[i] + of_dice : of_dice;  // 0 * infinity is NaN
    assign(grad[i], paired ? value : 0.0f);
  }
}

}  // namespace
}  // namespace cuda

void mask_loss_fwd_cuda(const MaskLossCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  if (params.masks == 0) return;
  const auto blocks = static_cast<unsigned>(params.strips()) * params.chunks() * params.masks;
  for_cuda_float_type(params.logits_dtype, [&](auto* pointer) {
    using Logit = std::remove_pointer_t<decltype(pointer)>;
    if (params.maps != nullptr) {
      launch(mask_loss_sweep_kernel<Logit, true>, blocks, kThreads, stream, params);
    } else {
      launch(mask_loss_sweep_kernel<Logit, false>, blocks, kThreads, stream, params);
    }
  });
  launch(mask_loss_finish_kernel, static_cast<unsigned>(params.masks), kThreads, stream, params);
}

void mask_loss_bwd_cuda(const MaskLossGradParams& params, int64_t masks, CUstream_st* stream) {
  using namespace cuda;
  if (masks == 0 || params.pixels == 0) return;
  const int64_t parts = (params.pixels + 1023) / 1024;
  const dim3 grid(static_cast<unsigned>(masks), static_cast<unsigned>(parts < 1024 ? parts : 1024));
  for_cuda_float_type(params.dtype, [&](auto* pointer) {
    using T = std::remove_pointer_t<decltype(pointer)>;
    launch(mask_loss_bwd_kernel<T>, grid, 256, stream, params);
  });
}

}  // namespace maskformer_ext
