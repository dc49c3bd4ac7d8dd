// CUDA kernel of matching_cost with masks, which may overlap. A thread evaluates a pixel once for the masks of a word
// and keeps their sums in registers.
#include "common/cuda_base.cuh"
#include "common/cuda_block.cuh"
#include "common/warp_sums.cuh"
#include "matching_cost/class_sums.cuh"
#include "matching_cost/pixel_terms.cuh"
#include "matching_cost/query_costs.cuh"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = MatchingCostCudaParams;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kFloatPixels = 32;  // pixels of a thread that are added in float
constexpr int kMaskGroup = 8;     // masks of a word that are left out together where there are fewer

// One instruction. For (word & bit) != 0 the compiler shifts, masks and compares.
__device__ __forceinline__ bool has_bit(uint32_t word, uint32_t bit) {
#ifdef __CUDA_ARCH__
  uint32_t found;
  asm("and.b32 %0, %1, %2;" : "=r"(found) : "r"(word), "r"(bit));
  return found != 0;
#else
  return (word & bit) != 0;
#endif
}

// The sums of a query for the masks of a word. Lane l of a warp has those of mask l. Lane kMasksOfWord has the
// foreground.
struct MaskSums {
  double focal, missed;
};

template <bool kSquare, class Mask>
__device__ MaskSums sum_masks(const Params& p, const Mask* logits, const uint32_t* words, int masks, float* check) {
  constexpr int kMasks = Params::kMasksOfWord;
  const float positive_factor = p.alpha < 0.0f ? 1.0f : p.alpha;
  const float negative_factor = p.alpha < 0.0f ? 1.0f : 1.0f - p.alpha;
  const int pixels = static_cast<int>(p.pixels());
  logits = base_of(logits);
  words = base_of(words);
  MaskSums total = {0.0, 0.0};
  for (int first = 0; first < pixels; first += kThreads * kFloatPixels) {
    const unsigned end = min(pixels, first + kThreads * kFloatPixels);
    float focal[kMasks] = {}, missed[kMasks] = {}, foreground = 0.0f;
    for (unsigned pixel = first + threadIdx.x; pixel < end; pixel += kThreads) {
      const float x = as_float(logits[pixel]);
      const uint32_t word = words[pixel];
      *check = fmaf(x, 0.0f, *check);
      PixelTerms terms = pixel_terms<kSquare>(x, p.gamma);
      const bool counts = (word & Params::kCounts) != 0;
      const float inside = counts ? positive_factor * terms.positive : 0.0f;
      const float outside = counts ? negative_factor * terms.negative : 0.0f;
      terms.foreground = counts ? terms.foreground : 0.0f;
      terms.background = counts ? terms.background : 0.0f;
      foreground += terms.foreground;
#pragma unroll
      for (int group = 0; group < kMasks; group += kMaskGroup) {
        if (group >= masks) break;
#pragma unroll
        for (int t = group; t < group + kMaskGroup; ++t) {
          const bool own = has_bit(word, 1u << t);
          focal[t] += own ? inside : outside;
          missed[t] += own ? terms.background : terms.foreground;
        }
      }
    }
    double exact[32] = {};
#pragma unroll
    for (int t = 0; t < kMasks; ++t) exact[t] = focal[t];
    exact[kMasks] = foreground;
    total.focal += warp_sums(exact);
#pragma unroll
    for (int t = 0; t < 32; ++t) exact[t] = t < kMasks ? missed[t] : 0.0f;
    total.missed += warp_sums(exact);
  }
  return total;
}

template <bool kSquare, class Class, class Mask>
__global__ void __launch_bounds__(kThreads) mask_cost_kernel(Params p) {
  constexpr int kMasks = Params::kMasksOfWord;
  MASKFORMER_EXT_SHARED(double, focal, kThreads);
  MASKFORMER_EXT_SHARED(double, missed, kThreads);
  const int thread = static_cast<int>(threadIdx.x), segments = static_cast<int>(p.segments);
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    const Rows<1, Class, Mask> at(p, row);
    Query query;
    const bool classes = class_sums<kThreads>(at.classes, p.classes + 1, &query.largest, &query.exponentials);
    const float counted = 1.0f * max(p.counted[at.image], 1);
    for (int first = 0; first < segments; first += kMasks) {
      const uint32_t* words = p.bits + (at.image * p.words + first / kMasks) * p.pixels();
      float check = 0.0f;  // NaN once a logit is not finite
      const MaskSums own = sum_masks<kSquare>(p, at.logits, words, at.num_segments - first, &check);
      focal[thread] = own.focal;
      missed[thread] = own.missed;
      query.finite = block_reduce<kThreads>(check == 0.0f ? 0 : 1, AnyBit()) == 0 && classes;
      const int t = first + thread;
      if (thread < kMasks && t < segments) {
        SegmentSums sums = {0.0, 0.0, 0.0};
        for (int warp = 0; warp < kWarps; ++warp) {
          sums.focal += focal[32 * warp + thread];
          sums.missed += missed[32 * warp + thread];
          sums.foreground += focal[32 * warp + kMasks];
        }
        if (t < at.num_segments) {
          write_cost(p, at.classes, query, at.image, t, counted, sums, at.cost + t);
        } else {
          at.cost[t] = 0.0f;
        }
      }
      __syncthreads();  // the sums are free for the next word
    }
  }
}

}  // namespace
}  // namespace cuda

void matching_cost_masks_cuda(const MatchingCostCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  for_types_of(params, [&](auto square, auto* class_pointer, auto* mask_pointer) {
    using Class = std::remove_pointer_t<decltype(class_pointer)>;
    using Mask = std::remove_pointer_t<decltype(mask_pointer)>;
    launch(mask_cost_kernel<square.value, Class, Mask>, blocks_for(params, params.rows), kThreads, stream, params);
  });
}

}  // namespace maskformer_ext
