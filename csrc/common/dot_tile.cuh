// A block's 128 x 128 tile of a matrix product on tensor cores. Operands pass through shared memory, two stages deep.
//
// The lines of an operand are the rows of the first and the columns of the second. Its terms are what the sum runs
// over. Either may be contiguous, so no product of the ops needs a transposed copy.
#pragma once

#include <type_traits>

#include "common/cuda_mma.cuh"
#include "common/tile_loader.cuh"

namespace maskformer_ext::cuda {

// float32 as exact as float32 products are. Each operand is split into two TF32 numbers. Three of their four products
// are added, the small ones first. A tensor core truncates what it adds up, so its sums are short and are added up
// outside.
struct SplitTF32Product {
  using Storage = float;
  static constexpr int kStep = TF32Product::kStep;
};

// The sums of a tile. Warp w has the rows from 64 (w / 4) on and the columns from 32 (w % 4) on. kAligned says that
// both operands are.
template <class Product, bool kFirstTermsContiguous, bool kSecondTermsContiguous, bool kAligned>
class DotTile {
  using Storage = typename Product::Storage;
  using First = TileLoader<Storage, kFirstTermsContiguous, kAligned>;
  using Second = TileLoader<Storage, kSecondTermsContiguous, kAligned>;
  static constexpr int kRowFragments = 4, kColumnFragments = 2;
  static constexpr int kRows = 16 * kRowFragments, kColumns = 16 * kColumnFragments;  // of a warp
  static constexpr int kTerms = First::kTerms, kSteps = kTerms / Product::kStep;
  static constexpr int kSecondBegin = 2 * First::kSize, kSize = kSecondBegin + 2 * Second::kSize;
  static constexpr bool kSplit = std::is_same_v<Product, SplitTF32Product>;
  static_assert(kSteps == First::kChunks && kSteps == Second::kChunks);

 public:
  static constexpr int kPatchRows = 32, kPatchColumns = kColumns;

  // Adds up terms [begin, end) of the tile whose corner is (row_begin, column_begin). All threads of the block call it.
  __device__ void run(const TileOperand<Storage>& first, const TileOperand<Storage>& second, int row_begin,
                      int column_begin, int begin, int end) {
    run(first, second, LineOf<Storage>{first}, row_begin, column_begin, begin, end);
  }
  // The same where first_row(line) is the first element of a row.
  template <class Row>
  __device__ void run(const TileOperand<Storage>& first_operand, const TileOperand<Storage>& second_operand,
                      Row&& first_row, int row_begin, int column_begin, int begin, int end) {
    auto& stages = shared();
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    row_ = kRows * (warp / 4);
    column_ = kColumns * (warp % 4);
    // Rows outside the matrix are left out, 16 at a time: a hundred queries need seven of eight.
    const int rows = first_operand.lines - row_begin - row_, columns = second_operand.lines - column_begin - column_;
    const int fragments = columns > 0 ? min((rows + 15) / 16, kRowFragments) : 0;
    First first(first_operand, row_begin, begin, first_row);
    Second second(second_operand, column_begin, begin, LineOf<Storage>{second_operand});
#pragma unroll
    for (int i = 0; i < kRowFragments; ++i) {
#pragma unroll
      for (int j = 0; j < 2 * kColumnFragments; ++j) {
#pragma unroll
        for (int s = 0; s < 4; ++s) sums_[i][j][s] = 0.0f;
      }
    }
    // Where this lane's part of the first fragments lies. It goes from stage to stage with the loop.
    int first_part = First::place(row_, 0) + fragment_part<Storage, kFirstTermsContiguous, First::kPitch>(lane);
    int second_part = kSecondBegin + Second::place(column_, 0) +
                      fragment_part<Storage, kSecondTermsContiguous, Second::kPitch, true>(lane);
    int stage = 0;
    if (begin < end) {
      load(first, stages, 0, end - begin);
      load(second, stages, kSecondBegin, end - begin);
    }
    commit_copies();
    for (int left = end - begin; left > 0; left -= kTerms) {
      const int next = left - kTerms;  // terms of the stages to come
      const int first_next = (1 - stage) * First::kSize, second_next = kSecondBegin + (1 - stage) * Second::kSize;
      if (next > 0) {
        if (first.asynchronous()) first.load(stages, first_next, next);
        if (second.asynchronous()) second.load(stages, second_next, next);
      }
      commit_copies();
      wait_copies<1>();
      __syncthreads();
      if constexpr (!First::kShifts) {
        if (fragments == kRowFragments) {
#pragma unroll(kSplit ? 1 : kSteps)  // split operands leave no registers for two steps
          for (int step = 0; step < kSteps; ++step)
            multiply_step<true>(stages, first_part, second_part, step, fragments);
        } else if (fragments > 0) {
#pragma unroll 1
          for (int step = 0; step < kSteps; ++step)
            multiply_step<false>(stages, first_part, second_part, step, fragments);
        }
      } else {
        // What arrives during a product is written after it, of one operand at a time: registers are scarce.
        const bool first_shifts = next > 0 && !first.asynchronous(), second_shifts = next > 0 && !second.asynchronous();
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          Columns columns;
          load_columns(columns, stages, second_part, step);
          const auto half = [&](auto& loader, bool shifts, int begin_next, auto begin_row) {
            constexpr int kBegin = decltype(begin_row)::value, kEnd = kBegin + kRowFragments / 2;
            FetchedChunk fetched = {};
            if (shifts) fetched = loader.fetch(step, next);
            if (fragments >= kEnd) {
              multiply_rows<true, kBegin, kEnd>(stages, first_part, columns, step, fragments);
            } else {
              multiply_rows<false, kBegin, kEnd>(stages, first_part, columns, step, fragments);
            }
            if (shifts) loader.put(stages, begin_next, step, next, fetched);
          };
          half(first, first_shifts, first_next, std::integral_constant<int, 0>());
          half(second, second_shifts, second_next, std::integral_constant<int, kRowFragments / 2>());
        }
      }
      __syncthreads();
      stage = 1 - stage;
      first_part += stage == 1 ? First::kSize : -First::kSize;
      second_part += stage == 1 ? Second::kSize : -Second::kSize;
    }
  }

  // Sums of kPatchRows rows by kPatchColumns columns of a warp, in shared memory. Its corner lies at (row, column) of
  // the tile.
  template <class Shared>
  struct Patch {
    Shared& memory;
    int begin;  // in floats
    int row, column;

    // Neither eight lanes that write a pair of neighbours nor those that read a row share a bank.
    __device__ __forceinline__ int place(int y, int x) const { return begin + kPatchColumns * y + (x ^ y % 4 * 8); }
    __device__ __forceinline__ float sum(int y, int x) const { return get_float(memory, place(y, x)); }
    // Four neighbours, from a multiple of four on.
    __device__ __forceinline__ void four(int y, int x, float (&to)[4]) const { get_floats(memory, place(y, x), to); }

    // Replaces every sum by function(sum). All lanes of the warp call it.
    template <class Function>
    __device__ __forceinline__ void apply(Function&& function) const {
      const int lane = threadIdx.x % 32;
#pragma unroll 1
      for (int y = 0; y < kPatchRows; y += 2) {
        const int at = place(y + lane / 16, lane % 16 * 2);
        const float a = function(get_float(memory, at)), b = function(get_float(memory, at + 1));
        put_pair(memory, at, a, b);
      }
      __syncwarp();
    }
  };

  // Calls body(patch) for both patches of each warp. Sums pass through shared memory, so that a short loop can write
  // whole rows. All threads of the block call it, after `run`.
  template <class Body>
  __device__ __forceinline__ void for_patches(Body&& body) const {
    static_assert(kTileThreads * kPatchColumns * sizeof(float) <= kSize * sizeof(Storage));
    using Shared = std::remove_reference_t<decltype(shared())>;
    Patch<Shared> patch = {shared(), static_cast<int>(threadIdx.x) / 32 * kPatchRows * kPatchColumns, row_, column_};
#pragma unroll 1  // one copy of the body
    for (int half = 0; half < 2; ++half) {
      __syncwarp();  // the patch before may still be read
      half == 0 ? put_half<0>(patch) : put_half<1>(patch);
      __syncwarp();
      body(patch);
      patch.row += kPatchRows;
    }
  }

 private:
  float sums_[kRowFragments][2 * kColumnFragments][4];
  int row_, column_;

  static __device__ __forceinline__ auto& shared() {
    MASKFORMER_EXT_SHARED(Storage, stages, kSize);
    return stages;
  }

  template <int kHalf, class Patch>
  __device__ __forceinline__ void put_half(const Patch& patch) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 2 * kColumnFragments; ++j) {
#pragma unroll
        for (int s = 0; s < 4; s += 2) {
          const float (&sums)[4] = sums_[2 * kHalf + i][j];
          put_pair(patch.memory, patch.place(16 * i + 4 * s + lane / 4, 8 * j + lane % 4 * 2), sums[s], sums[s + 1]);
        }
      }
    }
  }

  // The first stage.
  template <class Loader, class Shared>
  static __device__ __forceinline__ void load(Loader& loader, Shared& stages, int begin, int terms) {
    if (loader.asynchronous()) return loader.load(stages, begin, terms);
    if constexpr (Loader::kShifts) {
      for (int i = 0; i < Loader::kChunks; ++i) {
        const auto fetched = loader.fetch(i, terms);
        loader.put(stages, begin, i, terms, fetched);
      }
    }
  }

  // The second operand of a step, in all that its products with several rows share.
  struct Columns {
    uint32_t high[kColumnFragments][4], low[kColumnFragments][4];  // low: of a split product only
  };

  template <class Shared>
  static __device__ __forceinline__ void load_columns(Columns& to, Shared& stages, int second_part, int step) {
#pragma unroll
    for (int j = 0; j < kColumnFragments; ++j) {
      load_fragment<kSecondTermsContiguous, Second::kPitch, true>(
          to.high[j], stages, second_part + Second::place(16 * j, step * Product::kStep));
      split(to.high[j], to.low[j]);
    }
  }

  // Adds the products of row fragments [kBegin, kEnd), or of those below `fragments` unless kWhole.
  template <bool kWhole, int kBegin, int kEnd, class Shared>
  __device__ __forceinline__ void multiply_rows(Shared& stages, int first_part, const Columns& columns, int step,
                                                int fragments) {
#pragma unroll
    for (int i = kBegin; i < kEnd; ++i) {
      if (!kWhole && i >= fragments) continue;
      uint32_t high[4], low[4];
      load_fragment<kFirstTermsContiguous, First::kPitch>(high, stages,
                                                          first_part + First::place(16 * i, step * Product::kStep));
      split(high, low);
#pragma unroll
      for (int j = 0; j < 2 * kColumnFragments; ++j) add(sums_[i][j], high, low, columns, j);
    }
  }

  template <bool kWhole, class Shared>
  __device__ __forceinline__ void multiply_step(Shared& stages, int first_part, int second_part, int step,
                                                int fragments) {
    Columns columns;
    load_columns(columns, stages, second_part, step);
    multiply_rows<kWhole, 0, kRowFragments>(stages, first_part, columns, step, fragments);
  }

  // A float becomes high + low, to 22 bits. Where it is not finite, high has all of it. 16-bit elements stay as they
  // are.
  static __device__ __forceinline__ void split(uint32_t (&high)[4], uint32_t (&low)[4]) {
    if constexpr (std::is_same_v<Storage, float>) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const float x = __uint_as_float(high[r]);
        high[r] = round_to_tf32(x);
        if constexpr (kSplit) {
          const float rest = x - __uint_as_float(high[r]);
          low[r] = fabsf(rest) < INFINITY ? round_to_tf32(rest) : 0u;
        }
      }
    }
  }

  // Adds the products of 16 rows with the eight columns from 8 j on.
  static __device__ __forceinline__ void add(float (&sums)[4], const uint32_t (&high)[4], const uint32_t (&low)[4],
                                             const Columns& columns, int j) {
    const uint32_t (&other)[4] = columns.high[j / 2];
    const int r = j % 2 * 2;
    if constexpr (kSplit) {
      const uint32_t (&other_low)[4] = columns.low[j / 2];
      float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
      multiply(TF32Product(), part, low, other[r], other[r + 1]);
      multiply(TF32Product(), part, high, other_low[r], other_low[r + 1]);
      multiply(TF32Product(), part, high, other[r], other[r + 1]);
#pragma unroll
      for (int s = 0; s < 4; ++s) sums[s] += part[s];
    } else {
      multiply(Product(), sums, high, other[r], other[r + 1]);
    }
  }
};

}  // namespace maskformer_ext::cuda
