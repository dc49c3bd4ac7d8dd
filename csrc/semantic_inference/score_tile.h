// The product of class probabilities and mask probabilities for a tile of pixels, kept in registers.
#pragma once

#include <cstdint>

#include "common/aligned.h"
#include "common/mask_tiles.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

#if defined(__AVX512F__)
inline constexpr int kTileClasses = 6;  // with 4 vectors of pixels 24 sums, 4 columns and a factor in 32 registers
#else
inline constexpr int kTileClasses = 4;  // with 3 vectors of pixels 12 sums, 3 columns and a factor in 16 registers
#endif

// Class probabilities (Q, K) in blocks of kTileClasses classes, each (active, kTileClasses). Classes beyond K are 0.
class PackedClasses {
 public:
  PackedClasses(const float* probability, int64_t classes, const int64_t* queries, int64_t active)
      : classes_(classes), active_(active), packed_(blocks() * active * kTileClasses) {
    for (int64_t block = 0; block < blocks(); ++block) {
      for (int64_t q = 0; q < active; ++q) {
        for (int i = 0; i < kTileClasses; ++i) {
          const int64_t k = block * kTileClasses + i;
          packed_[(block * active + q) * kTileClasses + i] = k < classes ? probability[queries[q] * classes + k] : 0.0f;
        }
      }
    }
  }

  int64_t blocks() const { return (classes_ + kTileClasses - 1) / kTileClasses; }
  const float* block(int64_t index) const { return packed_.data() + index * active_ * kTileClasses; }
  int64_t classes() const { return classes_; }
  int64_t active() const { return active_; }

 private:
  int64_t classes_, active_;
  AlignedVector<float> packed_;
};

// sums[i][v] = sum over the n queries of factors[query[j]][i] * masks[j][v], where masks is (n, kTilePixels).
inline __attribute__((always_inline)) void score_tile(const float* __restrict factors, const float* __restrict masks,
                                                      const int32_t* __restrict query, int64_t n,
                                                      FloatVec (&sums)[kTileClasses][kTileVectors]) {
  FloatVec acc[kTileClasses][kTileVectors] = {};
  for (int64_t j = 0; j < n; ++j) {
    FloatVec column[kTileVectors];
    for (int v = 0; v < kTileVectors; ++v) column[v] = load<FloatVec>(masks + j * kTilePixels + v * kLanes);
#pragma GCC unroll 6
    for (int i = 0; i < kTileClasses; ++i) {
      const FloatVec factor = broadcast(factors[query[j] * kTileClasses + i]);
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) acc[i][v] += factor * column[v];
    }
  }
  for (int i = 0; i < kTileClasses; ++i) {
    for (int v = 0; v < kTileVectors; ++v) sums[i][v] = acc[i][v];
  }
}

// The largest score of each pixel of a tile, the lowest class that has it, and the second largest score. Classes must
// come in ascending order.
struct BestClass {
  FloatVec score[kTileVectors], second[kTileVectors];
  IntVec label[kTileVectors];

  BestClass() {
    for (int v = 0; v < kTileVectors; ++v) {
      score[v] = second[v] = broadcast(-1.0f);  // below every score
      label[v] = IntVec{};
    }
  }

  inline __attribute__((always_inline)) void add(int64_t k, const FloatVec (&value)[kTileVectors]) {
    for (int v = 0; v < kTileVectors; ++v) {
      const IntVec better = value[v] > score[v];
      const FloatVec lower = better ? score[v] : value[v];
      second[v] = lower > second[v] ? lower : second[v];
      score[v] = better ? value[v] : score[v];
      label[v] = better ? IntVec{} + static_cast<int32_t>(k) : label[v];
    }
  }

  // Whether the first `count` labels stay the same if every score grows by between 0 and `unknown`.
  bool certain(float unknown, int64_t count) const {
    for (int v = 0; v * kLanes < count; ++v) {
      const IntVec exists = lane_numbers() < static_cast<int32_t>(count - v * kLanes);
      // 4e-6: the sums are rounded in another order when some terms are left out
      const IntVec close = score[v] - second[v] <= unknown + 4e-6f * score[v];
      if (true_lanes(close & exists) != 0) return false;
    }
    return true;
  }

  void store(int64_t* labels, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) labels[i] = label[i / kLanes][i % kLanes];
  }
};

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
