// A block's 128 x 128 tile of a matrix product on tensor cores. Operands pass through shared memory, two stages deep.
//
// The lines of an operand are the rows of the first and the columns of the second. Its terms are what the sum runs
// over. Either may be contiguous, so no product of the ops needs a transposed copy.
#pragma once

#include <type_traits>

#include "common/cuda_mma.cuh"

namespace maskformer_ext::cuda {

// float32 as exact as float32 products are. Each operand is split into two TF32 numbers. Three of their four products
// are added, the small ones first. A tensor core truncates what it adds up, so its sums are short and are added up
// outside.
struct SplitTF32Product {
  using Storage = float;
  static constexpr int kStep = TF32Product::kStep;
};

constexpr int kTileThreads = 256;  // eight warps, two by four, each with 64 rows and 32 columns
constexpr int kTileLines = 128;

// One operand of a tile. Element (line, term) is data[line * line_stride + term * term_stride], and one of the strides
// is 1. Lines from `lines` on and terms from `terms` on count as zero.
template <class Storage>
struct TileOperand {
  const Storage* data;
  int64_t line_stride, term_stride;
  int lines, terms;
  bool aligned;  // 16 contiguous bytes may be read from every multiple of 16 bytes' worth of elements
};

// The first element of a line.
template <class Storage>
struct LineOf {
  const TileOperand<Storage>& operand;
  __device__ const Storage* operator()(int line) const { return operand.data + line * operand.line_stride; }
};

// Whether all reads of 16 bytes from an operand are aligned and end inside it.
template <class Storage>
bool reads_aligned(const void* data, int64_t contiguous, int64_t stride) {
  constexpr int64_t kElements = 16 / sizeof(Storage);
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && contiguous % kElements == 0 && stride % kElements == 0;
}

// Copies an operand to shared memory, a stage of kTerms terms at a time.
template <class Storage, bool kTermsContiguous>
class TileLoader {
 public:
  static constexpr int kVector = 16 / sizeof(Storage);
  static constexpr int kTerms = 64 / sizeof(Storage);
  static constexpr int kPitch = kTermsContiguous ? kTerms + kVector : kTileLines + 8;  // no two rows on the same banks
  static constexpr int kSize = kPitch * (kTermsContiguous ? kTileLines : kTerms);      // a stage

  // Where an element lies in a stage.
  static __device__ __forceinline__ int place(int line, int term) {
    return kTermsContiguous ? line * kPitch + term : term * kPitch + line;
  }

  // `row(line)` is the first element of a line, so that lines need not have one stride.
  template <class Row>
  __device__ TileLoader(const TileOperand<Storage>& operand, int first_line, Row&& row) : operand_(operand) {
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int chunk = threadIdx.x + i * kTileThreads;
      line_[i] = kTermsContiguous ? chunk / (kTerms / kVector) : chunk % (kTileLines / kVector) * kVector;
      term_[i] = kTermsContiguous ? chunk % (kTerms / kVector) * kVector : chunk / (kTileLines / kVector);
      const int line = first_line + line_[i];
      left_[i] = operand.lines - line;
      from_[i] = left_[i] > 0 ? row(line) + term_[i] * operand.term_stride : operand.data;
    }
  }

  // Copies terms [first, first + kTerms) of the lines to to[begin ...]; terms from `end` on are zeros.
  template <class Shared>
  __device__ __forceinline__ void load(Shared& to, int begin, int first, int end) const {
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int terms = end - first - term_[i];  // that exist
      const bool exists = left_[i] > 0 && terms > 0;
      const Storage* from = exists ? from_[i] + first * operand_.term_stride : operand_.data;
      const int at = begin + place(line_[i], term_[i]);
      if (operand_.aligned && (!kTermsContiguous || terms >= kVector || terms <= 0)) {
        copy_async(to, at, from, exists);
        continue;
      }
      const int count = exists ? (kTermsContiguous ? terms : left_[i]) : 0;
#pragma unroll
      for (int e = 0; e < kVector; ++e) to[at + e] = e < count ? from[e] : Storage{};
    }
  }

 private:
  static constexpr int kChunks = kTileLines * kTerms / kVector / kTileThreads;

  TileOperand<Storage> operand_;
  int line_[kChunks], term_[kChunks], left_[kChunks];
  const Storage* from_[kChunks];
};

// The sums of a tile. Warp w has the rows from 64 (w / 4) on and the columns from 32 (w % 4) on.
template <class Product, bool kFirstTermsContiguous, bool kSecondTermsContiguous>
class DotTile {
  using Storage = typename Product::Storage;
  using First = TileLoader<Storage, kFirstTermsContiguous>;
  using Second = TileLoader<Storage, kSecondTermsContiguous>;
  static constexpr int kRowFragments = 4, kColumnFragments = 2;
  static constexpr bool kSplit = std::is_same_v<Product, SplitTF32Product>;

 public:
  // Adds up terms [begin, end) of the tile whose corner is (row_begin, column_begin). All threads of the block call it;
  // no shared memory is read afterwards.
  __device__ void run(const TileOperand<Storage>& first, const TileOperand<Storage>& second, int row_begin,
                      int column_begin, int begin, int end) {
    run(first, second, LineOf<Storage>{first}, row_begin, column_begin, begin, end);
  }
  // The same where first_row(line) is the first element of a row.
  template <class Row>
  __device__ void run(const TileOperand<Storage>& first, const TileOperand<Storage>& second, Row&& first_row,
                      int row_begin, int column_begin, int begin, int end) {
    MASKFORMER_EXT_SHARED(Storage, first_stages, 2 * First::kSize);
    MASKFORMER_EXT_SHARED(Storage, second_stages, 2 * Second::kSize);
    const int warp = threadIdx.x / 32;
    row_ = 64 * (warp / 4);
    column_ = 32 * (warp % 4);
    // Fragments outside the matrix are left out: a hundred queries need seven of eight.
    const int rows = first.lines - row_begin - row_, columns = second.lines - column_begin - column_;
    const First first_loader(first, row_begin, first_row);
    const Second second_loader(second, column_begin, LineOf<Storage>{second});
#pragma unroll
    for (int i = 0; i < kRowFragments; ++i) {
#pragma unroll
      for (int j = 0; j < 2 * kColumnFragments; ++j) {
#pragma unroll
        for (int s = 0; s < 4; ++s) sums_[i][j][s] = 0.0f;
      }
    }
    if (begin < end) {
      first_loader.load(first_stages, 0, begin, end);
      second_loader.load(second_stages, 0, begin, end);
    }
    commit_copies();
    int stage = 0;
    for (int term = begin; term < end; term += First::kTerms) {
      const int next = term + First::kTerms;
      if (next < end) {
        first_loader.load(first_stages, (1 - stage) * First::kSize, next, end);
        second_loader.load(second_stages, (1 - stage) * Second::kSize, next, end);
      }
      commit_copies();
      wait_copies<1>();
      __syncthreads();
#pragma unroll
      for (int step = 0; step < First::kTerms; step += Product::kStep) {
        uint32_t second_part[kColumnFragments][4];
#pragma unroll
        for (int j = 0; j < kColumnFragments; ++j) {
          if (16 * j >= columns) continue;
          load_fragment<kSecondTermsContiguous, Second::kPitch>(
              second_part[j], second_stages, stage * Second::kSize + Second::place(column_ + 16 * j, step));
        }
#pragma unroll
        for (int i = 0; i < kRowFragments; ++i) {
          if (16 * i >= rows) continue;
          uint32_t first_part[4];
          load_fragment<kFirstTermsContiguous, First::kPitch>(first_part, first_stages,
                                                              stage * First::kSize + First::place(row_ + 16 * i, step));
#pragma unroll
          for (int j = 0; j < kColumnFragments; ++j) {
            if (16 * j < columns) add(sums_[i][2 * j], sums_[i][2 * j + 1], first_part, second_part[j]);
          }
        }
      }
      __syncthreads();
      stage = 1 - stage;
    }
  }

  // Replaces every sum by function(sum).
  template <class Function>
  __device__ __forceinline__ void apply(Function&& function) {
#pragma unroll
    for (int i = 0; i < kRowFragments; ++i) {
#pragma unroll
      for (int j = 0; j < 2 * kColumnFragments; ++j) {
#pragma unroll
        for (int s = 0; s < 4; ++s) sums_[i][j][s] = function(sums_[i][j][s]);
      }
    }
  }

  // Calls body(row, column, a, b) for this thread's sums: a of (row, column), b of the column after it. Rows and
  // columns are counted from the tile's corner.
  template <class Body>
  __device__ __forceinline__ void for_pairs(Body&& body) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kRowFragments; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int j = 0; j < 2 * kColumnFragments; ++j) {
          body(row_ + 16 * i + 8 * half + lane / 4, column_ + 8 * j + 2 * (lane % 4), sums_[i][j][2 * half],
               sums_[i][j][2 * half + 1]);
        }
      }
    }
  }

 private:
  float sums_[kRowFragments][2 * kColumnFragments][4];
  int row_, column_;

  static __device__ __forceinline__ void add(float (&left)[4], float (&right)[4], const uint32_t (&first)[4],
                                             const uint32_t (&second)[4]) {
    if constexpr (std::is_same_v<Storage, float>) {
      uint32_t first_high[4], first_low[4], second_high[4], second_low[4];
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        split(first[r], first_high[r], first_low[r]);
        split(second[r], second_high[r], second_low[r]);
      }
      add_floats(left, first_high, first_low, second_high[0], second_high[2], second_low[0], second_low[2]);
      add_floats(right, first_high, first_low, second_high[1], second_high[3], second_low[1], second_low[3]);
    } else {
      multiply(Product(), left, first, second[0], second[2]);
      multiply(Product(), right, first, second[1], second[3]);
    }
  }

  // x = high + low, to 22 bits. Where x is not finite, high has all of it.
  static __device__ __forceinline__ void split(uint32_t bits, uint32_t& high, uint32_t& low) {
    const float x = __uint_as_float(bits);
    high = round_to_tf32(x);
    if constexpr (kSplit) {
      const float rest = x - __uint_as_float(high);
      low = fabsf(rest) < INFINITY ? round_to_tf32(rest) : 0u;
    }
  }

  static __device__ __forceinline__ void add_floats(float (&sums)[4], const uint32_t (&high)[4],
                                                    const uint32_t (&low)[4], uint32_t high0, uint32_t high1,
                                                    uint32_t low0, uint32_t low1) {
    if constexpr (kSplit) {
      float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
      multiply(TF32Product(), part, low, high0, high1);
      multiply(TF32Product(), part, high, low0, low1);
      multiply(TF32Product(), part, high, high0, high1);
#pragma unroll
      for (int s = 0; s < 4; ++s) sums[s] += part[s];
    } else {
      multiply(TF32Product(), sums, high, high0, high1);
    }
  }
};

}  // namespace maskformer_ext::cuda
