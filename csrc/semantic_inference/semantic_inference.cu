// CUDA kernels of the labels of semantic inference: which queries count, their probabilities as fragments, and the best
// class of every pixel.
#include "common/cuda_block.cuh"
#include "common/cuda_mma.cuh"
#include "common/math.h"
#include "common/tap_table.cuh"
#include "semantic_inference/mask_chunk.cuh"
#include "semantic_inference/semantic_inference_cuda.h"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = SemanticCudaParams;
constexpr int kThreads = 256;
constexpr int kListThreads = 1024;
constexpr int kStep = Params::kStep;
// Rows whose samples a thread loads at once beside eighty sums. Two spill on all but sm_90.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000
constexpr int kBesideManySums = 2;
#else
constexpr int kBesideManySums = 1;
#endif

// Lists in order the queries that have a class probability, and the largest of each. One block, with a warp per query.
__global__ void __launch_bounds__(kListThreads) list_queries_kernel(Params p) {
  constexpr int kListWarps = kListThreads / 32;
  MASKFORMER_EXT_SHARED(int, counts, kListWarps);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int query = warp; query < p.queries; query += kListWarps) {
    const float* row = p.probability + int64_t{query} * p.classes;
    float most = 0.0f;
    for (int k = lane; k < p.classes; k += 32) most = fmaxf(most, row[k]);
    for (int bits = 16; bits > 0; bits /= 2) most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, bits));
    if (lane == 0) p.most[query] = most;
  }
  __syncthreads();
  int before = 0;
  for (int first = 0; first < p.queries; first += kListThreads) {
    const int query = first + threadIdx.x;
    const bool counts_at_all = query < p.queries && p.most[query] > 0.0f;
    const unsigned found = __ballot_sync(kAllLanes, counts_at_all);
    __syncthreads();  // the counts of the queries before may still be read
    if (lane == 0) counts[warp] = __popc(found);
    __syncthreads();
    int place = before + __popc(found & ((1u << lane) - 1u));
    for (int w = 0; w < kListWarps; ++w) {
      const int count = counts[w];
      place += w < warp ? count : 0;
      before += count;
    }
    if (counts_at_all) p.query[place] = query;
  }
  if (threadIdx.x == 0) *p.kept = before;
}

// Writes class probabilities as the first operand of the product, whose rows are classes and whose terms are queries. A
// warp writes a fragment.
__global__ void __launch_bounds__(32) pack_probability_kernel(Params p) {
  const int tile = blockIdx.x, step = blockIdx.y, lane = threadIdx.x, kept = *p.kept;
  uint32_t words[4];
  for (int r = 0; r < 4; ++r) {
    const int k = 16 * tile + 8 * (r % 2) + lane / 4;
    words[r] = 0;
    for (int half = 0; half < 2; ++half) {
      const int place = kStep * step + 2 * (4 * (r / 2) + lane % 4) + half;
      const bool exists = place < kept && k < p.classes;
      const float value = exists ? p.probability[int64_t{p.query[place]} * p.classes + k] : 0.0f;
      words[r] |= half_bits(value) << (16 * half);
    }
  }
  auto* fragments = static_cast<uint4*>(p.fragments);
  fragments[(int64_t{step} * p.class_tiles + tile) * 32 + lane] = {words[0], words[1], words[2], words[3]};
}

// The best class so far, the lowest of equal ones, and the second largest score.
struct Best {
  float score = -1.0f, second = -1.0f;  // below every score
  int label = 0;

  __device__ __forceinline__ void add(float value, int k) {
    second = fmaxf(second, fminf(score, value));
    label = value > score ? k : label;
    score = fmaxf(score, value);
  }
  // Adds another's classes.
  __device__ __forceinline__ void merge(float other, float other_second, int other_label) {
    second = fmaxf(fmaxf(second, other_second), fminf(score, other));
    if (other > score || (other == score && other_label < label)) label = other_label;
    score = fmaxf(score, other);
  }
  __device__ __forceinline__ void merge_lanes(int bits) {
    const float other = __shfl_xor_sync(kAllLanes, score, bits);
    const float other_second = __shfl_xor_sync(kAllLanes, second, bits);
    const int other_label = __shfl_xor_sync(kAllLanes, label, bits);
    merge(other, other_second, other_label);
  }

  // Whether the errors of both scores could exchange them. The errors, in units of the score, are these:
  //
  // - A factor rounded to 11 bits is wrong by 2^-11, hence a product by 2^-10 + 2^-22.
  // - The fast functions are wrong by less than 2^-18.
  // - The sum is wrong by less than 2^-22 per query. Every 16 queries, a tensor core cuts each of its 17 addends off at
  //   2^-23 of the largest. The float32 sum that labels are compared with rounds once per query, by 2^-24.
  //
  // On top, a factor below 2^-14 is wrong by 2^-25. That is 2^-24 per query where both are small. Queries that were
  // left out would add at most `missing` to any score.
  __device__ __forceinline__ bool uncertain(int queries, float missing) const {
    const auto number = static_cast<float>(queries);
    const float above = second + missing;
    return score - above <= (9.82e-4f + 2.4e-7f * number) * (score + above) + 1.3e-7f * number;
  }
};

// The label of one pixel from sums in float32, in the order of the queries. A warp's lanes share the classes.
template <class Logit, int kTaps>
__device__ int exact_label(const Params& p, int y, int x, int kept) {
  constexpr int kClasses = 5;  // of a lane at once
  const int lane = threadIdx.x % 32;
  const PixelTaps<kTaps> taps(p.masks.rows[y], p.masks.columns[x], p.masks.row_stride);
  Best best;
  for (int first_class = 0; first_class < p.classes; first_class += 32 * kClasses) {
    float sums[kClasses] = {};
    for (int first = 0; first < kept; first += 32) {
      const int number = min(first + lane, kept - 1);
      const float own = sigmoid(taps.logit(mask_plane<Logit>(p.masks, number)));
      const int own_query = p.query[number];
      for (int j = 0; j < min(32, kept - first); ++j) {
        const float probability = __shfl_sync(kAllLanes, own, j);
        const int query = __shfl_sync(kAllLanes, own_query, j);
        const float* row = p.probability + int64_t{query} * p.classes;
#pragma unroll
        for (int i = 0; i < kClasses; ++i) {
          const int k = first_class + 32 * i + lane;
          if (k < p.classes) sums[i] += row[k] * probability;
        }
      }
    }
    for (int i = 0; i < kClasses; ++i) {
      const int k = first_class + 32 * i + lane;
      if (k < p.classes) best.add(sums[i], k);
    }
  }
  for (int bits = 16; bits > 0; bits /= 2) best.merge_lanes(bits);
  return best.label;
}

template <class Logit, int kTaps, int kClassTiles>  // sixteen taps beside eighty sums need the registers of two blocks
__global__ void __launch_bounds__(kThreads, kTaps == 4 && kClassTiles > 4 ? 1 : 2) semantic_labels_kernel(Params p) {
  using Chunk = MaskChunk<Logit, kTaps, kTaps == 4 ? 1 : (kClassTiles > 4 ? kBesideManySums : 4)>;
  constexpr int kPitch = Chunk::kPitch;
  MASKFORMER_EXT_SHARED(uint16_t, masks, Chunk::kQueries* kPitch);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, kept = *p.kept;
  const int tiles = (p.masks.out_width + Chunk::kColumns - 1) / Chunk::kColumns;
  const int first_row = static_cast<int>(blockIdx.x) / tiles * Chunk::kRows;
  const int first_column = static_cast<int>(blockIdx.x) % tiles * Chunk::kColumns;
  const Chunk chunk(p, first_row, first_column);
  const auto* fragments = static_cast<const uint4*>(p.fragments) + lane;
  const int own = 16 * warp + fragment_part<uint16_t, false, kPitch, true>(lane);
  MASKFORMER_EXT_SHARED(float, left_out, 32);  // that a lane of the first warp knows of: no register is left
  Best best[2][2];                             // of pixels 8 i + 2 (lane % 4) + j of the warp's 16
  for (int first_tile = 0; first_tile < p.class_tiles; first_tile += kClassTiles) {
    float sums[kClassTiles][2][4] = {};
    if (warp == 0) left_out[lane] = 0.0f;
    for (int first = 0; first < kept; first += Chunk::kQueries) {
      const unsigned steps = chunk.fill(p, first, kept, masks, left_out);
      for (int step = 0; step < Chunk::kSteps; ++step) {
        if ((steps >> step & 1u) == 0) continue;
        uint32_t second[4];
        load_fragment<false, kPitch, true>(second, masks, own + step * kStep * kPitch);
        const int64_t place = (int64_t{first / kStep + step} * p.class_tiles + first_tile) * 32;
#pragma unroll
        for (int tile = 0; tile < kClassTiles; ++tile) {
          const uint4 words = fragments[place + 32 * tile];
          const uint32_t part[4] = {words.x, words.y, words.z, words.w};
          multiply(Float16Product(), sums[tile][0], part, second[0], second[1]);
          multiply(Float16Product(), sums[tile][1], part, second[2], second[3]);
        }
      }
    }
#pragma unroll
    for (int tile = 0; tile < kClassTiles; ++tile) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int k = 16 * (first_tile + tile) + 8 * half + lane / 4;
        if (k >= p.classes) continue;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
#pragma unroll
          for (int j = 0; j < 2; ++j) best[i][j].add(sums[tile][i][2 * half + j], k);
        }
      }
    }
  }

  __syncthreads();
  const float missing = warp_sum(static_cast<float>(left_out[lane]));
  unsigned again = 0;  // a bit for each of the warp's pixels that the bound does not decide
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      for (int bits = 4; bits < 32; bits *= 2) best[i][j].merge_lanes(bits);
      const unsigned votes = __ballot_sync(kAllLanes, best[i][j].uncertain(kept, missing)) & 0xfu;  // of lanes 0 to 3
      for (int quarter = 0; quarter < 4; ++quarter) again |= (votes >> quarter & 1u) << (8 * i + 2 * quarter + j);
    }
  }
  const auto store = [&](int number, int label) {
    const int y = first_row + number / Chunk::kColumns, x = first_column + number % Chunk::kColumns;
    if (y < p.masks.out_height && x < p.masks.out_width) p.labels[int64_t{y} * p.masks.out_width + x] = label;
  };
  if (lane < 4) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int number = 8 * i + 2 * lane + j;
        if ((again >> number & 1u) == 0) store(16 * warp + number, best[i][j].label);
      }
    }
  }
  for (; again != 0; again &= again - 1) {
    const int number = 16 * warp + __ffs(static_cast<int>(again)) - 1;
    const int y = first_row + number / Chunk::kColumns, x = first_column + number % Chunk::kColumns;
    if (y >= p.masks.out_height || x >= p.masks.out_width) continue;
    const int label = exact_label<Logit, kTaps>(p, y, x, kept);
    if (lane == 0) store(number, label);
  }
}

}  // namespace
}  // namespace cuda

void semantic_queries_cuda(const SemanticCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  launch(list_queries_kernel, 1, kListThreads, stream, params);
}

void semantic_labels_cuda(const SemanticCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  using Chunk = MaskChunk<float, 2, 1>;  // for its sizes
  const int64_t rows = (params.masks.out_height + Chunk::kRows - 1) / Chunk::kRows;
  const int64_t tiles = rows * ((params.masks.out_width + Chunk::kColumns - 1) / Chunk::kColumns);
  if (tiles == 0) return;
  if (params.steps > 0 && params.class_tiles > 0) {
    const dim3 grid(static_cast<unsigned>(params.class_tiles), static_cast<unsigned>(params.steps));
    launch(pack_probability_kernel, grid, 32, stream, params);
  }
  for_cuda_float_type(params.masks.dtype, [&](auto* pointer) {
    using Logit = std::remove_pointer_t<decltype(pointer)>;
    for_taps(params.masks.taps, [&](auto taps) {
      constexpr int kTaps = decltype(taps)::value;
      const int block = Params::tiles_of_block(params.classes);
      const auto kernel = block == 2   ? semantic_labels_kernel<Logit, kTaps, 2>
                          : block == 4 ? semantic_labels_kernel<Logit, kTaps, 4>
                                       : semantic_labels_kernel<Logit, kTaps, 10>;
      launch(kernel, static_cast<unsigned>(tiles), kThreads, stream, params);
    });
  });
}

}  // namespace maskformer_ext
