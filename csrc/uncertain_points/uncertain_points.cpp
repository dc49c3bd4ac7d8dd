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
  explicit Selection(int64_t candidates) : counts_(kCounters * kDigits), keys_(candidates + kLanes) {}

  int32_t* keys() { return keys_.data(); }

  // The largest key that is chosen, and how many candidates with this key are.
  struct Bound {
    int32_t key;
    int64_t ties;
  };

  // Finds the bound of the first `candidates` keys; count is at least 1.
  Bound bound(int64_t candidates, int64_t count) {
    std::fill(counts_.begin(), counts_.end(), 0);
    int64_t i = 0;
    for (; i + kCounters <= candidates; i += kCounters) {
      for (int k = 0; k < kCounters; ++k) ++counts_[k * kDigits + (keys_[i + k] >> kDigitShift)];
    }
    for (; i < candidates; ++i) ++counts_[keys_[i] >> kDigitShift];
    int64_t before = 0;
    int32_t digit = 0;
    for (;; ++digit) {
      int64_t here = 0;
      for (int k = 0; k < kCounters; ++k) here += counts_[k * kDigits + digit];
      if (before + here >= count) break;
      before += here;
    }
    within_.clear();
    for (i = 0; i < candidates; i += kLanes) {
      uint32_t bits = true_lanes((load<IntVec>(&keys_[i]) >> kDigitShift) == digit);
      for (; bits != 0; bits &= bits - 1) {
        const int64_t candidate = i + std::countr_zero(bits);
        if (candidate < candidates) within_.push_back(keys_[candidate]);
      }
    }
    const auto last = within_.begin() + (count - before - 1);
    std::nth_element(within_.begin(), last, within_.end());
    const int32_t key = *last;
    // Those before `last` are not larger than it; smaller ones are chosen in any case.
    const int64_t smaller = std::count_if(within_.begin(), last, [key](int32_t other) { return other < key; });
    return {key, count - before - smaller};
  }

 private:
  std::vector<int32_t> counts_;
  AlignedVector<int32_t> keys_;
  std::vector<int32_t> within_;  // keys with the digit of the bound
};

}  // namespace

void uncertain_points(const UncertainPointsParams& p, int64_t begin, int64_t end) {
  PointPlane plane(p.height, p.width);
  Selection selection(p.num_candidates);
  int32_t* keys = selection.keys();
  for (int64_t mask = begin; mask < end; ++mask) {
    const float* candidates = p.candidates + mask * p.num_candidates * 2;
    plane.fill(p.logits, p.dtype, mask * p.mask_stride, p.row_stride);
    for (int64_t i = 0; i < p.num_candidates; i += kLanes) {
      EntryLanes entries;
      plane.find(load_points(candidates + 2 * i, p.num_candidates - i), entries);
      const IntVec key = distance_of(plane.sample(entries));
      std::memcpy(keys + i, &key, sizeof(key));
    }
    const Selection::Bound bound = selection.bound(p.num_candidates, p.count);
    float* chosen = p.chosen + mask * p.count * 2;
    int64_t ties = bound.ties, found = 0;
    for (int64_t i = 0; found < p.count; i += kLanes) {
      uint32_t bits = true_lanes(load<IntVec>(keys + i) <= bound.key);
      for (; bits != 0 && found < p.count; bits &= bits - 1) {
        const int64_t candidate = i + std::countr_zero(bits);
        if (keys[candidate] == bound.key && ties-- <= 0) continue;
        std::memcpy(chosen + 2 * found++, candidates + 2 * candidate, 2 * sizeof(float));
      }
    }
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
