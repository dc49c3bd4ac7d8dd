// Class probabilities in 16-bit fixed point, and by how much a score made of them may be wrong.
#pragma once

#include "semantic_inference/fixed_point.h"

#if defined(__AVX2__)
#include <vector>

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// A score in integers is sum over queries of round(scale * probability) * round(kOne * mask), minus kScoreOrigin.
inline constexpr int32_t kScoreOrigin = 1 << 30;

class FixedClasses {
 public:
  FixedClasses(const float* probability, int64_t classes, const int64_t* queries, int64_t active)
      : classes_(classes),
        active_(active),
        pitch_((classes + kLanes - 1) / kLanes * kLanes),
        rows_(active * pitch_, 0.0f),
        columns_(classes * active),
        pairs_(classes * pair_count(), 0),
        sum_(classes),
        over_(classes),
        under_(classes) {
    float largest = 0.0f;
    double largest_sum = 0.0;
    for (int64_t k = 0; k < classes; ++k) {
      double sum = 0.0;
      for (int64_t q = 0; q < active; ++q) {
        const float p = probability[queries[q] * classes + k];
        if (!(p >= 0.0f && p <= 2.0f)) usable_ = false;  // nor is it with NaN
        rows_[q * pitch_ + k] = columns_[k * active + q] = p;
        largest = p > largest ? p : largest;
        sum += p;
      }
      largest_sum = sum > largest_sum ? sum : largest_sum;
    }
    // Sums stay below 65000 * 32768, less than 2^31, and kScoreOrigin below that after it is subtracted.
    usable_ = usable_ && active < 60000 && largest > 1e-30f;
    if (!usable_) return;
    scale_ = std::min(32767.0 / largest, (65000.0 - 0.5 * active) / largest_sum);
    for (int64_t k = 0; k < classes; ++k) round_class(k);
  }

  // Whether the probabilities are such that the bounds hold.
  bool usable() const { return usable_; }
  int64_t classes() const { return classes_; }
  int64_t pitch() const { return pitch_; }
  int64_t active() const { return active_; }
  int64_t pair_count() const { return (active_ + 1) / 2; }

  const float* row(int64_t q) const { return rows_.data() + q * pitch_; }         // (pitch,) of a query
  const float* column(int64_t k) const { return columns_.data() + k * active_; }  // (active,) of a class
  const int32_t* pairs(int64_t k) const { return pairs_.data() + k * pair_count(); }

  // A score in float32, as a difference of integers.
  double units() const { return scale_ * kOne; }

  // How far below and above its integer a class's score lies at most. Masks are wrong by `mask_error`, and the masks
  // that were left out add up to at most `left_out`.
  struct Reach {
    int32_t below, above;
  };
  Reach reach(int64_t k, float mask_error, float left_out) const {
    const float rounding = sum_[k] * mask_error + 8.0f;
    return {static_cast<int32_t>(rounding + over_[k]),
            static_cast<int32_t>(rounding + under_[k] + left_out * static_cast<float>(units()))};
  }
  // Whether no reach can make a sum overflow, where no class has more than `left_out`.
  bool in_reach(float mask_error, float left_out) const {
    return 65000.0 * mask_error + largest_rounding_ + left_out * units() < 0.99 * (1 << 29);
  }

 private:
  void round_class(int64_t k) {
    double sum = 0.0, over = 0.0, under = 0.0, exact_sum = 0.0;
    for (int64_t q = 0; q < active_; ++q) {
      const double exact = scale_ * columns_[k * active_ + q];
      const double rounded = std::nearbyint(exact);
      const auto bits = static_cast<uint32_t>(rounded);
      pairs_[k * pair_count() + q / 2] |= static_cast<int32_t>(q % 2 == 0 ? bits : bits << 16);
      sum += rounded;
      exact_sum += exact;
      (rounded > exact ? over : under) += std::fabs(rounded - exact);
    }
    // The exact score is a sum in float32, of float32 masks: each is wrong by some 2^-24 of the sum.
    const double slack = exact_sum * (static_cast<double>(active_) + 16.0) * 0x1p-23;
    sum_[k] = static_cast<float>(1.0001 * sum);
    over_[k] = static_cast<float>(1.0001 * kOne * (over + slack));
    under_[k] = static_cast<float>(1.0001 * kOne * (under + slack));
    largest_rounding_ = std::max(largest_rounding_, 1.01 * kOne * (over + under + slack) + 8.0);
  }

  int64_t classes_, active_, pitch_;
  AlignedVector<float> rows_;              // (active, pitch)
  AlignedVector<float> columns_;           // (classes, active)
  AlignedVector<int32_t> pairs_;           // (classes, pairs) two queries in a lane
  std::vector<float> sum_, over_, under_;  // (classes,) of the rounded numbers, and of what rounding added and took
  double scale_ = 0.0, largest_rounding_ = 0.0;
  bool usable_ = true;
};

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
#endif
