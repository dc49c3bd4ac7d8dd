// Forms the dice loss and the factors of its gradient from sums over pixels, without differences of large numbers.
#pragma once

#include "common/math.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

struct Dice {
  float loss;           // 1 - (2 I + 1) / (S + A + 1)
  float factor_inside;  // d loss / d logit = factor_inside * s (1 - s) t + factor_all * s (1 - s)
  float factor_all;
};

// Write I = sum s t, S = sum s, A = sum t, and q = s + t - 2 s t. The sum of q is S + A - 2 I, so the loss is sum(q) /
// (S + A + 1).
//
// - `wrong` is sum(q)
// - `wrong_inside` is sum((1 - s) t) = A - I
// - `inside` is A
MASKFORMER_EXT_HD Dice dice_from_sums(double wrong, double wrong_inside, double inside) {
  const double both = inside - wrong_inside;
  const double size = wrong + 2.0 * both + 1.0;
  return {static_cast<float>(wrong / size), static_cast<float>(-2.0 / size),
          static_cast<float>((2.0 * both + 1.0) / (size * size))};
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
