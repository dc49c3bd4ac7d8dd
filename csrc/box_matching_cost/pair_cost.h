// The cost of one query and one object, one source for host and device. F is float or FloatVec, a lane per object.
#pragma once

#include <cfloat>

#include "common/math.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

inline constexpr float kEpsilon = 1e-8f;  // is added to a probability before its logarithm is taken

MASKFORMER_EXT_HD float whole_to_float(int32_t x) { return static_cast<float>(x); }
#ifndef __CUDACC__
MASKFORMER_EXT_HD FloatVec whole_to_float(IntVec x) { return __builtin_convertvector(x, FloatVec); }
#endif

// log(x) for a normal x > 0. The polynomial was fitted to the smallest relative error of the result.
template <class F>
MASKFORMER_EXT_HD F log_positive(F x) {
#ifdef MASKFORMER_EXT_GPU_FUNCTIONS
  return logf(x);
#else
  const auto exponent = (float_bits(x) - 0x3f3504f3) >> 23;  // that of x / sqrt(1/2), rounded down
  const F f = bits_float(float_bits(x) - (exponent << 23)) - 1.0f;
  F p = f * -7.634310424327850e-02f + 1.276150196790695e-01f;
  p = p * f - 1.316021829843521e-01f;
  p = p * f + 1.420177072286606e-01f;
  p = p * f - 1.662335544824600e-01f;
  p = p * f + 2.000122666358948e-01f;
  p = p * f - 2.500082254409790e-01f;
  p = p * f + 3.333333134651184e-01f;
  const F n = whole_to_float(exponent);
  return n * 0.693359375f + (n * -2.12194440e-4f + ((p * f - 0.5f) * f * f + f));
#endif
}

// Focal class cost of a logit x, with p = sigmoid(x): positive * (1 - p)^gamma * -log(p + epsilon) less
// negative * p^gamma * -log(1 - p + epsilon). Beside the larger of p and 1 - p, epsilon is lost to rounding.
template <Gamma mode, class F>
MASKFORMER_EXT_HD F focal_class_cost(F x, float positive, float negative, float gamma) {
  const Logistic<F> l = logistic(x);
  const F z = exp_nonpositive(negative_magnitude(x));
  const F of_larger = log1p_unit(z);
  const F of_smaller = of_larger - log_positive(z + kEpsilon * (1.0f + z));
  const F positive_entropy = x > 0.0f ? of_larger : of_smaller;
  const F negative_entropy = x > 0.0f ? of_smaller : of_larger;
  if constexpr (mode == Gamma::zero) return positive * positive_entropy - negative * negative_entropy;
  F positive_factor, negative_factor;
  if constexpr (mode == Gamma::two) {
    positive_factor = l.sigmoid_complement * l.sigmoid_complement;
    negative_factor = l.sigmoid * l.sigmoid;
  } else {
    positive_factor = exp_nonpositive(-gamma * l.softplus);
    negative_factor = exp_nonpositive(-gamma * l.softplus_negative);
  }
  return positive * (positive_factor * positive_entropy) - negative * (negative_factor * negative_entropy);
}

template <class F>
struct Box {
  F x, y, width, height;  // the centre, and the whole extent
};

template <class F>
struct Overlap {
  F both, hull;  // lengths of the intersection and of the hull
};

// Of two intervals of these half lengths, the second of which lies `distance` beyond the first. All edges are relative
// to the first one's middle: those of small boxes would lose their last digits otherwise.
template <class F>
MASKFORMER_EXT_HD Overlap<F> overlap(F half_a, F half_b, F distance) {
  const F low = distance - half_b, high = distance + half_b;
  const F both = (half_a < high ? half_a : high) - (-half_a > low ? -half_a : low);
  const F hull = (half_a > high ? half_a : high) - (-half_a < low ? -half_a : low);
  const F zero{};
  return {both > 0.0f ? both : zero, hull > 0.0f ? hull : zero};
}

// box_weight * L1 - giou_weight * generalised IoU.
template <class F>
MASKFORMER_EXT_HD F box_cost(const Box<F>& a, const Box<F>& b, float box_weight, float giou_weight) {
  const F dx = b.x - a.x, dy = b.y - a.y;
  const F l1 = (-negative_magnitude(dx) - negative_magnitude(dy)) -
               (negative_magnitude(b.width - a.width) + negative_magnitude(b.height - a.height));
  const Overlap<F> across = overlap(0.5f * a.width, 0.5f * b.width, dx);
  const Overlap<F> down = overlap(0.5f * a.height, 0.5f * b.height, dy);
  const F both = across.both * down.both, hull = across.hull * down.hull;
  const F both_areas = a.width * a.height + b.width * b.height - both;
  return box_weight * l1 - giou_weight * (both / both_areas + both_areas / hull - 1.0f);
}

// +inf in the place of whatever is not finite.
template <class F>
MASKFORMER_EXT_HD F finite_or_infinity(F cost) {
  const F infinity = F{} + __builtin_inff();
  return -negative_magnitude(cost) <= FLT_MAX ? cost : infinity;
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
