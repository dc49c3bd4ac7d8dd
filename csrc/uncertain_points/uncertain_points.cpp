// CPU kernel of uncertain_points.
#include "uncertain_points/uncertain_points.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "common/point_plane.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

constexpr int kDigitShift = 19, kDigits = 1 << (31 - kDigitShift);
constexpr int kCounters = 4;  // equal digits come in runs, and adding to one counter twice in a row waits
constexpr int32_t kLast = INT32_MAX;

// How far logits are from 0, as integers in the same order. NaN comes after all numbers.
IntVec distance_of(FloatVec logit) { return logit == logit ? float_bits(logit) & INT32_MAX : IntVec{} + kLast; }

// Chooses the `count` smallest keys of a mask, of equal ones the first.
class Selection {
 public:
  explicit Selection(int64_t candidates)
      : candidates_(candidates), counts_(kCounters * kDigits), keys_(candidates + kLanes) {}

  int32_t* keys() { return keys_.data(); }

  // Finds which keys are chosen; count is at least 1.
  void choose(int64_t count) {
    const auto [digit, before] = count_digits(count);
    within_.clear();
    for (int64_t i = 0; i < candidates_; i += kLanes) {
      for (uint32_t bits = existing(i, keys_at(i) >> kDigitShift == digit); bits != 0; bits &= bits - 1) {
        within_.push_back(keys_[i + std::countr_zero(bits)]);
      }
    }
    const auto last = within_.begin() + (count - before - 1);
    std::nth_element(within_.begin(), last, within_.end());
    bound_ = *last;
    // Those before `last` are not larger. Smaller ones are chosen in any case.
    int64_t ties = count - before - std::count_if(within_.begin(), last, [this](int32_t key) { return key < bound_; });
    for (int64_t i = 0;; i += kLanes) {
      uint32_t bits = existing(i, keys_at(i) == bound_);
      const int here = std::popcount(bits);
      if (here < ties) {
        ties -= here;
        continue;
      }
      for (; ties > 1; --ties) bits &= bits - 1;
      last_tie_ = i + std::countr_zero(bits);
      return;
    }
  }

  // The lanes of the candidates from i on that are chosen.
  uint32_t chosen(int64_t i) const {
    if (i + kLanes <= last_tie_) return true_lanes(keys_at(i) <= bound_);
    const uint32_t smaller = existing(i, keys_at(i) < bound_);
    if (i > last_tie_) return smaller;
    const uint32_t up_to_last_tie = (2u << (last_tie_ - i)) - 1;
    return smaller | (true_lanes(keys_at(i) == bound_) & up_to_last_tie);
  }

 private:
  // The digit of the largest key that is chosen, and how many keys have a smaller one.
  struct Digit {
    int32_t digit;
    int64_t before;
  };

  Digit count_digits(int64_t count) {
    std::fill(counts_.begin(), counts_.end(), 0);
    int64_t i = 0;
    for (; i + kCounters <= candidates_; i += kCounters) {
      for (int k = 0; k < kCounters; ++k) ++counts_[k * kDigits + (keys_[i + k] >> kDigitShift)];
    }
    for (; i < candidates_; ++i) ++counts_[keys_[i] >> kDigitShift];
    Digit found = {};
    for (;; ++found.digit) {
      int64_t here = 0;
      for (int k = 0; k < kCounters; ++k) here += counts_[k * kDigits + found.digit];
      if (found.before + here >= count) return found;
      found.before += here;
    }
  }

  IntVec keys_at(int64_t i) const { return load<IntVec>(&keys_[i]); }

  // The true lanes of the candidates from i on, as far as there are candidates.
  uint32_t existing(int64_t i, IntVec comparison) const {
    const uint32_t bits = true_lanes(comparison);
    return candidates_ - i >= kLanes ? bits : bits & ((1u << (candidates_ - i)) - 1);
  }

  int64_t candidates_;
  std::vector<int32_t> counts_;
  AlignedVector<int32_t> keys_;
  std::vector<int32_t> within_;  // keys with the digit of the bound
  int32_t bound_ = 0;            // the largest key that is chosen
  int64_t last_tie_ = 0;         // the last candidate with this key that is
};

// Copies those of kLanes points whose bits are set. It may write up to kLanes points, whatever the bits.
void copy_points(const float* from, uint32_t bits, float* to) {
#if defined(__AVX512F__)
  for (int half = 0; half < 2; ++half) {
    const auto some = static_cast<__mmask8>(bits >> (8 * half));
    const __m512i points = _mm512_loadu_si512(from + kLanes * half);
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(some, points));
    to += 2 * std::popcount(uint32_t{some});
  }
#else
  for (int lane = 0; lane < kLanes; ++lane) {
    std::memcpy(to, from + 2 * lane, 2 * sizeof(float));
    to += 2 * (bits >> lane & 1);
  }
#endif
}

}  // namespace

void uncertain_points(const UncertainPointsParams& p, int64_t begin, int64_t end) {
  PointPlane plane(p.height, p.width);
  Selection selection(p.num_candidates);
  for (int64_t mask = begin; mask < end; ++mask) {
    const float* candidates = p.candidates + mask * p.num_candidates * 2;
    plane.fill(p.logits, p.dtype, mask * p.mask_stride, p.row_stride);
    for (int64_t i = 0; i < p.num_candidates; i += kLanes) {
      EntryLanes entries;
      plane.find(load_points(candidates + 2 * i, p.num_candidates - i), entries);
      const IntVec key = distance_of(plane.sample(entries));
      std::memcpy(selection.keys() + i, &key, sizeof(key));
    }
    selection.choose(p.count);
    float* chosen = p.chosen + mask * p.count * 2;
    int64_t i = 0, found = 0;
    for (; found + kLanes <= p.count && i + kLanes <= p.num_candidates; i += kLanes) {
      const uint32_t bits = selection.chosen(i);
      copy_points(candidates + 2 * i, bits, chosen + 2 * found);
      found += std::popcount(bits);
    }
    for (; found < p.count; i += kLanes) {
      for (uint32_t bits = selection.chosen(i); bits != 0; bits &= bits - 1) {
        std::memcpy(chosen + 2 * found++, candidates + 2 * (i + std::countr_zero(bits)), 2 * sizeof(float));
      }
    }
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
