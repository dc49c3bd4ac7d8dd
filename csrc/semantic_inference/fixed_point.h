// Mask probabilities of two queries at a time, in 16-bit fixed point, from logits that are resized in 16 bits as well.
//
// A 32-bit lane holds a pair of queries at one pixel. The taps of ColumnTaps therefore serve here too. Twice as many
// values fit a vector as in float32, and neither an exponential nor a division is needed.
//
// Every value is wrong by at most mask_error(). A test, test_fixed_point.py, tries all inputs.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common/aligned.h"
#include "common/tap_table.h"
#include "common/vec.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

typedef int16_t ShortVec __attribute__((vector_size(4 * kLanes)));

inline constexpr float kOne = 32768.0f;        // a mask probability of 1; the largest that occurs is 32767
inline constexpr float kLogitSteps = 2048.0f;  // per unit of a logit, before it is halved `halvings` times
inline constexpr int kLargest = 16383;         // the largest logit that is told apart, 8 in steps
inline constexpr int kMostHalvings = 13;       // leaves one bit

inline __attribute__((always_inline)) ShortVec broadcast_short(int value) {
  return ShortVec{} + static_cast<int16_t>(value);
}

// The sum of the products of both halves of each 32-bit lane.
inline __attribute__((always_inline)) IntVec multiply_pairs(IntVec a, IntVec b) {
#if defined(__AVX512F__)
  return (IntVec)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#else
  return (IntVec)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#endif
}

// round(a * b / 32768), of each half.
inline __attribute__((always_inline)) ShortVec multiply_rounded(ShortVec a, ShortVec b) {
#if defined(__AVX512F__)
  return (ShortVec)_mm512_mulhrs_epi16((__m512i)a, (__m512i)b);
#else
  return (ShortVec)_mm256_mulhrs_epi16((__m256i)a, (__m256i)b);
#endif
}

inline __attribute__((always_inline)) ShortVec shift_left(ShortVec a, int count) {
#if defined(__AVX512F__)
  return (ShortVec)_mm512_sll_epi16((__m512i)a, _mm_cvtsi32_si128(count));
#else
  return (ShortVec)_mm256_sll_epi16((__m256i)a, _mm_cvtsi32_si128(count));
#endif
}

inline __attribute__((always_inline)) IntVec round_to_int(FloatVec x) {
#if defined(__AVX512F__)
  return (IntVec)_mm512_maskz_cvtps_epi32(0xffff, (__m512)x);  // plain: GCC 12 warns
#else
  return (IntVec)_mm256_cvtps_epi32((__m256)x);
#endif
}

// Lanes of 32 bits, moved as permute() of vec.h moves floats.
inline __attribute__((always_inline)) ShortVec permute_pairs(IntVec vec, IntVec index) {
  return (ShortVec)permute((FloatVec)vec, index);
}

// A table of eight 16-bit numbers, one of which each half picks. `place` has its two bytes' numbers.
struct ShortTable {
  ShortVec entries;
  // By a broadcast: the compiler would fill the vector number by number each time.
  explicit ShortTable(const int16_t (&of)[8]) {
    const __m128i once = _mm_loadu_si128(reinterpret_cast<const __m128i*>(of));
#if defined(__AVX512F__)
    entries = (ShortVec)_mm512_maskz_broadcast_i32x4(0xffff, once);  // plain: GCC 12 warns
#else
    entries = (ShortVec)_mm256_broadcastsi128_si256(once);
#endif
  }
  inline __attribute__((always_inline)) ShortVec at(ShortVec place) const {
#if defined(__AVX512F__)
    return (ShortVec)_mm512_shuffle_epi8((__m512i)entries, (__m512i)place);
#else
    return (ShortVec)_mm256_shuffle_epi8((__m256i)entries, (__m256i)place);
#endif
  }
};

// sigmoid(x / 2048 * 2^halvings) in units of 1 / kOne, for |x| <= kLargest. A cubic for each unit of a logit.
class FixedSigmoid {
 public:
  inline __attribute__((always_inline)) ShortVec operator()(ShortVec x, int halvings) const {
    ShortVec magnitude = x < 0 ? -x : x;
    if (halvings > 0) {
      const ShortVec most = broadcast_short(kLargest >> halvings);
      magnitude = shift_left(magnitude < most ? magnitude : most, halvings);
    }
    // 0x0202 * (magnitude >> 11) + 0x0100, without a shift and a sum: 8224 / 32768 * 2048 is 0x0202.
    const ShortVec place =
        multiply_rounded((magnitude & broadcast_short(0x3800)) | broadcast_short(1020), broadcast_short(8224));
    const ShortVec t = (magnitude << 5) ^ broadcast_short(-32768);  // from -1 to 1 in a segment, in units of 2^-15
    ShortVec p = cubic_.at(place);
    p = multiply_rounded(p, t) + square_.at(place);
    p = multiply_rounded(p, t) + linear_.at(place);
    p = multiply_rounded(p, t) + constant_.at(place);
    return p ^ ((x >> 15) & broadcast_short(32767));  // 1 - p below 0
  }

 private:
  // Of the segments of magnitudes [i, i + 1), in units of 2^-15. The last ends between sigmoid(8) and 1, as it stands
  // for all larger ones too.
  static constexpr int16_t kConstant[8] = {20396, 26790, 30282, 31808, 32408, 32635, 32719, 32753};
  static constexpr int16_t kLinear[8] = {3850, 2444, 1149, 466, 178, 66, 25, 12};
  static constexpr int16_t kSquare[8] = {-227, -382, -244, -111, -44, -17, -6, -2};
  static constexpr int16_t kCubic[8] = {-64, 9, 27, 16, 7, 3, 1, 0};
  ShortTable constant_{kConstant}, linear_{kLinear}, square_{kSquare}, cubic_{kCubic};
};

// How many halvings let logits up to `largest` be told apart. More than kMostHalvings: there is no such number.
inline int halvings_for(float largest) {
  int halvings = 0;
  for (float most = (kLargest - 2) / kLogitSteps; halvings <= kMostHalvings && !(largest <= most); most *= 2.0f) {
    ++halvings;
  }
  return halvings;
}

// Column taps in 16 bits.
class FixedTaps {
 public:
  explicit FixedTaps(const ColumnTaps& columns) : columns_(columns) {
    const int64_t slots = columns.taps() * columns.vectors();
    float worst = 0.0f;
    for (int64_t slot = 0; slot < slots; ++slot) {
      const FloatVec weight = columns.weight(slot);
      ShortVec rounded;
      for (int lane = 0; lane < kLanes; ++lane) {
        const float exact = weight[lane] * 32768.0f;
        const float nearest = std::min(std::nearbyint(exact), 32767.0f);
        rounded[2 * lane] = rounded[2 * lane + 1] = static_cast<int16_t>(nearest);
        if (columns.taps() > 2 || slot >= columns.vectors()) worst = std::max(worst, std::fabs(nearest - exact));
      }
      weight_.push_back((IntVec)rounded);
    }
    // Rounded samples, whose combination is convex, rounded products, and products with a rounded weight.
    const float products = columns.taps() == 2 ? 1.0f : 4.0f;
    error_ = 0.55f + products * (0.5f + worst);
  }

  // By how many steps a resized logit may be wrong.
  float error() const { return error_; }

  // What a vector of outputs takes of a row of pairs.
  template <int kTaps>
  struct Vector {
    int64_t base[kTaps];
    IntVec offset[kTaps], weight[kTaps];

    inline __attribute__((always_inline)) ShortVec tap(const int32_t* samples, int number) const {
      return permute_pairs(load<IntVec>(samples + base[number]), offset[number]);
    }
    inline __attribute__((always_inline)) ShortVec resize(const int32_t* samples) const {
      if constexpr (kTaps == 2) {
        const ShortVec lower = tap(samples, 0);
        return lower + multiply_rounded(tap(samples, 1) - lower, (ShortVec)weight[1]);
      } else {
        ShortVec sum = multiply_rounded(tap(samples, 0), (ShortVec)weight[0]);
        for (int number = 1; number < kTaps; ++number) {
          sum += multiply_rounded(tap(samples, number), (ShortVec)weight[number]);
        }
        return sum;
      }
    }
  };

  // Vector v of a row whose samples are at hand from column `first` on.
  template <int kTaps>
  Vector<kTaps> vector(int64_t first, int64_t v) const {
    Vector<kTaps> to;
    for (int number = 0; number < kTaps; ++number) {
      const int64_t slot = number * columns_.vectors() + v;
      to.base[number] = columns_.base(slot) - first;
      to.offset[number] = columns_.offset(slot);
      to.weight[number] = weight_[slot];
    }
    return to;
  }

 private:
  const ColumnTaps& columns_;
  AlignedVector<IntVec> weight_;  // (taps, vectors), the same in both halves
  float error_;
};

// By how many units of 1 / kOne a mask probability may be wrong, where logits are wrong by `steps` before the halvings
// are undone. The sigmoid's slope is at most 1/4, hence 4 units for a step.
inline float mask_error(float steps, int halvings) { return 4.0f * std::ldexp(steps, halvings) + 4.0f; }

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
#endif
