// CUDA kernels of panoptic inference: queries that are kept, winners, segments, ids.
#include "common/cuda_block.cuh"
#include "common/cuda_math.cuh"
#include "common/strip_taps.cuh"
#include "common/warp_samples.cuh"
#include "panoptic_inference/panoptic_inference_cuda.h"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = PanopticCudaParams;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kNoPixel = INT32_MIN;  // in the place of a winner, outside the image

// Lists in order the queries that are kept, and clears what is counted later. A query is kept where its most probable
// class, the first of equal ones, is not "no object" and more probable than the threshold. One block, with a warp per
// query.
__global__ void __launch_bounds__(kThreads) keep_queries_kernel(Params p) {
  MASKFORMER_EXT_SHARED(int, keeps, kWarps);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int i = threadIdx.x; i < p.queries; i += kThreads) p.won[i] = p.own[i] = p.painted[i] = 0;
  for (int i = threadIdx.x; i < p.queries * kPanopticColumns; i += kThreads) p.table[i] = 0.0;
  int before = 0;
  for (int first = 0; first < p.queries; first += kWarps) {
    const int query = first + warp;
    float best = -INFINITY;
    int category = 0;
    if (query < p.queries) {
      const float* row = p.probability + int64_t{query} * p.columns;
      for (int k = lane; k < p.columns; k += 32) {
        const float value = row[k];
        if (value > best || k == lane) {
          best = value;
          category = k;
        }
      }
    }
    for (int bits = 16; bits > 0; bits /= 2) {
      const float other = __shfl_xor_sync(kAllLanes, best, bits);
      const int its_category = __shfl_xor_sync(kAllLanes, category, bits);
      if (other > best || (other == best && its_category < category)) {
        best = other;
        category = its_category;
      }
    }
    const bool keep = query < p.queries && category != p.columns - 1 && best > p.object_mask_threshold;
    __syncthreads();  // the flags of the queries before may still be read
    if (lane == 0) keeps[warp] = keep ? 1 : 0;
    __syncthreads();
    int place = before;
    for (int i = 0; i < kWarps; ++i) {
      const int flag = keeps[i];
      place += i < warp ? flag : 0;
      before += flag;
    }
    if (keep && lane == 0) {
      p.query[place] = query;
      p.category[place] = category;
      p.score[place] = best;
    }
  }
  if (threadIdx.x == 0) *p.kept = before;
}

// The values of a query's mask at a thread's pixels: one struct per Params::Values, with the number of output rows per
// thread.
template <int kTaps>
struct ResizedLogit {
  static constexpr int kRows = 1;  // more rows of 16 samples would not fit the registers
  PixelTaps<kTaps> taps;

  __device__ ResizedLogit(const Params& p, int y, int x)
      : taps(p.masks.rows[min(y, p.out_height - 1)], p.masks.columns[x], p.masks.row_stride) {}
  __device__ const auto& top_left() const { return taps; }
  __device__ const auto& bottom_right() const { return taps; }

  template <class Logit>
  __device__ __forceinline__ void values(const Logit* plane, bool of_logits, float (&value)[kRows]) const {
    value[0] = taps.logit(plane);
    if (!of_logits) value[0] = fast_sigmoid_of_any(value[0]);
  }
};

template <>
struct ResizedLogit<2> {
  static constexpr int kRows = 4;
  StripTaps<kRows> taps;

  __device__ ResizedLogit(const Params& p, int y, int x)
      : taps(p.masks.rows, y, p.out_height - 1, p.masks.columns[x], p.masks.row_stride) {}
  __device__ const auto& top_left() const { return taps; }
  __device__ const auto& bottom_right() const { return taps; }

  template <class Logit>
  __device__ __forceinline__ void values(const Logit* plane, bool of_logits, float (&value)[kRows]) const {
    taps.logits(plane, value);
    if (of_logits) return;
#pragma unroll
    for (int r = 0; r < kRows; ++r) value[r] = fast_sigmoid_of_any(value[r]);
  }
};

struct StoredProbability {
  static constexpr int kRows = 4;
  StripTaps<kRows> taps;

  __device__ StoredProbability(const Params& p, int y, int x)
      : taps(p.masks.rows, y, p.out_height - 1, p.masks.columns[x], p.masks.row_stride) {}
  __device__ const auto& top_left() const { return taps; }
  __device__ const auto& bottom_right() const { return taps; }

  template <class Logit>
  __device__ __forceinline__ void values(const Logit* plane, bool, float (&value)[kRows]) const {
    taps.values(plane, value, [](float logit) { return fast_sigmoid_of_any(logit); });
  }
};

struct InputProbability {
  static constexpr int kRows = 1;
  PixelTaps<2> taps;         // the pixels of the network input, as rows and columns
  PixelTaps<2> pixel[2][2];  // and the samples that these are made of

  __device__ InputProbability(const Params& p, int y, int x)
      : taps(p.output_rows[min(y, p.out_height - 1)], p.output_columns[x], 1) {
    for (int r = 0; r < 2; ++r) {
      for (int c = 0; c < 2; ++c) {
        pixel[r][c] = PixelTaps<2>(p.masks.rows[taps.row[r]], p.masks.columns[taps.column[c]], p.masks.row_stride);
      }
    }
  }
  __device__ const auto& top_left() const { return pixel[0][0]; }
  __device__ const auto& bottom_right() const { return pixel[1][1]; }

  template <class Logit>
  __device__ __forceinline__ void values(const Logit* plane, bool, float (&value)[kRows]) const {
    value[0] = taps.value([&](int r, int c) { return fast_sigmoid_of_any(pixel[r][c].logit(plane)); });
  }
};

// Keys in the order of floats that are no NaN, so that one instruction finds the least of a warp.
__device__ __forceinline__ unsigned order_of(float x) {
  const unsigned bits = __float_as_uint(x);
  return bits ^ (static_cast<unsigned>(static_cast<int>(bits) >> 31) | 0x80000000u);
}
__device__ __forceinline__ float of_order(unsigned key) {
  return __uint_as_float(key ^ (static_cast<unsigned>(~static_cast<int>(key) >> 31) | 0x80000000u));
}

// A block takes 32 columns, a warp kRows rows of them, and a thread one column. Queries come 32 at a time, so that a
// lane holds the count of one.
template <class Logit, class Mask>
__global__ void __launch_bounds__(kThreads, 3) panoptic_winners_kernel(Params p) {
  constexpr int kRows = Mask::kRows;
  MASKFORMER_EXT_SHARED(int, counts, kThreads);
  const int kept = *p.kept;
  if (kept == 0) return;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const unsigned tiles = static_cast<unsigned>(p.out_width + 31) / 32;
  const int x = static_cast<int>(blockIdx.x % tiles) * 32 + lane;
  const int first_row = (static_cast<int>(blockIdx.x / tiles) * kWarps + warp) * kRows;
  const Mask mask(p, first_row, min(x, p.out_width - 1));
  float best[kRows], threshold[kRows];
  int winner[kRows];
  const int flip = p.paint_own ? ~0 : 0;  // a winner that does not have its pixel is ~query then: it is not painted
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const bool exists = x < p.out_width && first_row + r < p.out_height;
    best[r] = exists ? -INFINITY : INFINITY;
    threshold[r] = exists ? p.mask_threshold : NAN;  // which no value reaches
    winner[r] = exists ? flip : kNoPixel;            // the first query, unless another is better than nothing
  }
  const auto& top_left = mask.top_left();
  const auto& bottom_right = mask.bottom_right();
  const WarpSamples samples(top_left.first_row(), bottom_right.last_row(), top_left.first_column(),
                            bottom_right.last_column(), p.masks.row_stride);
  float least = -INFINITY;  // of the warp's best

  for (int group = 0; group < kept; group += 32) {
    const int end = min(group + 32, kept);
    const int own_place = min(group + lane, kept - 1);  // a lane knows one query of the group
    const auto own_plane = reinterpret_cast<uintptr_t>(mask_plane<Logit>(p.masks, own_place));
    const float own_score = p.score[own_place];
    int own = 0;
    for (int q = group; q < end; ++q) {
      const auto* plane = base_of(reinterpret_cast<const Logit*>(__shfl_sync(kAllLanes, own_plane, q - group)));
      const float score = __shfl_sync(kAllLanes, own_score, q - group);
      // Most queries are small under most warps: they neither have a pixel there nor win one. 1.00001 allows for
      // rounding.
      const float bound = samples.bound(plane);
      const float most = p.of_logits ? bound + 0.00001f * fabsf(bound) : 1.00001f * fast_sigmoid_of_any(bound);
      const bool matters = most * score > least || (p.weighted_area ? most * score : most) >= p.mask_threshold;
      if (!__any_sync(kAllLanes, matters)) continue;
      float value[kRows];
      mask.values(plane, p.of_logits, value);
      unsigned inside = 0;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float weighted = value[r] * score;
        const bool has = (p.weighted_area ? weighted : value[r]) >= threshold[r];
        inside += has ? 1 : 0;
        winner[r] = weighted > best[r] ? (has ? q : q ^ flip) : winner[r];
        best[r] = fmaxf(best[r], weighted);  // NaN never wins
      }
      inside = __reduce_add_sync(kAllLanes, inside);
      if (lane == q - group) own = static_cast<int>(inside);
      least = best[0];
#pragma unroll
      for (int r = 1; r < kRows; ++r) least = fminf(least, best[r]);
      least = of_order(__reduce_min_sync(kAllLanes, order_of(least)));
    }
    __syncthreads();  // the group before may still be read
    counts[threadIdx.x] = own;
    __syncthreads();
    if (warp == 0 && group + lane < end) {
      int sum = 0;
      for (int i = 0; i < kWarps; ++i) sum += counts[32 * i + lane];
      if (sum > 0) atomicAdd(p.own + group + lane, sum);
    }
  }

  unsigned waiting = 0;  // rows whose winner is not counted
  for (int r = 0; r < kRows; ++r) {
    if (winner[r] == kNoPixel) continue;
    p.segment_map[int64_t{first_row + r} * p.out_width + x] = winner[r];
    waiting |= 1u << r;
  }
  // Neighbours mostly have the same winner. Winners are therefore counted one after the other, each for all rows at
  // once.
  while (const unsigned lanes = __ballot_sync(kAllLanes, waiting != 0)) {
    int next = 0;
    for (int r = kRows - 1; r >= 0; --r) next = waiting >> r & 1u ? max(winner[r], ~winner[r]) : next;
    next = __shfl_sync(kAllLanes, next, __ffs(static_cast<int>(lanes)) - 1);
    int pixels = 0, painted = 0;
    for (int r = 0; r < kRows; ++r) {
      const bool same = (waiting >> r & 1u) && max(winner[r], ~winner[r]) == next;
      pixels += __popc(__ballot_sync(kAllLanes, same));
      painted += __popc(__ballot_sync(kAllLanes, same && winner[r] >= 0));
      waiting &= same ? ~(1u << r) : ~0u;
    }
    if (lane == 0) {
      atomicAdd(p.won + next, pixels);
      atomicAdd(p.painted + next, painted);
    }
  }
}

// Decides which kept queries become segments, in order, and writes the table. Stuff joins the first segment of its
// class. One block.
__global__ void __launch_bounds__(kThreads) panoptic_segments_kernel(Params p, ThingClasses things) {
  const int kept = *p.kept;
  for (int i = threadIdx.x; i < kept; i += kThreads) {
    const bool strict = p.weighted_area || p.paint_own;
    p.segment_id[i] = panoptic_accepted(p.won[i], p.own[i], p.painted[i], p.overlap_threshold, strict) ? 1 : 0;
  }
  __syncthreads();
  int segments = 0;
  for (int i = threadIdx.x; i < kept; i += kThreads) {
    int first = i;
    if (p.segment_id[i] == 0) {
      first = -1;
    } else if (!things.contains(p.category[i])) {
      first = 0;
      while (p.segment_id[first] == 0 || p.category[first] != p.category[i]) ++first;
    }
    p.first[i] = first;
    segments += first == i ? 1 : 0;
  }
  segments = block_reduce<kThreads>(segments, Add());  // and p.first is complete
  if (threadIdx.x == 0) *p.count = segments;
  for (int i = threadIdx.x; i < kept; i += kThreads) {
    const int first = p.first[i];
    int id = first < 0 ? 0 : 1;
    for (int j = 0; j < first; ++j) id += p.first[j] == j ? 1 : 0;
    p.segment_id[i] = id;
    double* row = p.table + int64_t{p.query[i]} * kPanopticColumns;
    row[0] = id;
    row[1] = p.category[i];
    row[2] = things.contains(p.category[i]) ? 1.0 : 0.0;
    row[3] = p.score[i];
    row[4] = p.painted[i];
  }
}

// Puts ids in place of winners.
__global__ void __launch_bounds__(kThreads) panoptic_ids_kernel(Params p, int64_t pixels) {
  const bool none = *p.kept == 0;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < pixels; i += step) {
    const int winner = p.segment_map[i];
    p.segment_map[i] = none || winner < 0 ? 0 : p.segment_id[winner];
  }
}

template <class Logit, class Mask>
void find_winners(const Params& p, CUstream_st* stream) {
  constexpr int rows = kWarps * Mask::kRows;
  const unsigned tiles = static_cast<unsigned>(p.out_width + 31) / 32;
  const unsigned blocks = static_cast<unsigned>(p.out_height + rows - 1) / rows * tiles;
  launch(panoptic_winners_kernel<Logit, Mask>, blocks, kThreads, stream, p);
}

}  // namespace
}  // namespace cuda

void panoptic_inference_cuda(const PanopticCudaParams& params, const ThingClasses& things, CUstream_st* stream) {
  using namespace cuda;
  launch(keep_queries_kernel, 1, kThreads, stream, params);
  for_cuda_float_type(params.masks.dtype, [&](auto* pointer) {
    using Logit = std::remove_pointer_t<decltype(pointer)>;
    if (params.values == Params::Values::of_stored) return find_winners<Logit, StoredProbability>(params, stream);
    if (params.values == Params::Values::of_network_input) return find_winners<Logit, InputProbability>(params, stream);
    for_taps(params.masks.taps,
             [&](auto taps) { find_winners<Logit, ResizedLogit<decltype(taps)::value>>(params, stream); });
  });
  launch(panoptic_segments_kernel, 1, kThreads, stream, params, things);
  const int64_t pixels = int64_t{params.out_height} * params.out_width;
  const int64_t blocks = (pixels + 4 * kThreads - 1) / (4 * kThreads);
  launch(panoptic_ids_kernel, static_cast<unsigned>(blocks), kThreads, stream, params, pixels);
}

}  // namespace maskformer_ext
