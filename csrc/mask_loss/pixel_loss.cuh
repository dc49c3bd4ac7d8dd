// The losses of target pixels on a GPU, in few instructions.
#pragma once

#include "common/cuda_math.cuh"
#include "mask_loss/target_group.cuh"

namespace maskformer_ext::cuda {

struct PixelLoss {
  float focal, wrong, wrong_inside;
  float grad[3];  // what is added to each map
};

// The target is 0 or 1. With the sign of v flipped where it is 1, both classes are one expression. `l` is that of v
// with this sign.
template <Gamma mode>
__device__ __forceinline__ PixelLoss flag_loss(const MaskLossCudaParams& p, const Logistic<float>& l, bool inside) {
  FocalTerm<float> focal;
  if constexpr (mode == Gamma::general) {
    const float factor = fast_exp_nonpositive(-p.gamma * l.softplus_negative);
    focal = {factor * l.softplus, factor * (p.gamma * (l.sigmoid_complement * l.softplus) + l.sigmoid)};
  } else {
    focal = focal_wrong<mode>(l, p.gamma);
  }
  const float weight = inside ? p.alpha_inside : p.alpha_outside;
  const float slope = l.sigmoid * l.sigmoid_complement;
  return {weight * focal.loss,
          l.sigmoid,
          inside ? l.sigmoid : 0.0f,
          {(inside ? -p.alpha_inside : p.alpha_outside) * focal.grad, inside ? slope : 0.0f, slope}};
}

template <Gamma mode>
__device__ __forceinline__ PixelLoss flag_loss(const MaskLossCudaParams& p, float v, bool inside) {
  return flag_loss<mode>(p, fast_logistic(inside ? -v : v), inside);
}

// The target t lies between 0 and 1.
template <Gamma mode>
__device__ __forceinline__ PixelLoss value_loss(const MaskLossCudaParams& p, float v, float t) {
  const Logistic<float> l = fast_logistic(t == 1.0f ? -v : v);
  if (t == 0.0f || t == 1.0f) return flag_loss<mode>(p, l, t == 1.0f);
  const SoftPixel<float> soft = soft_pixel<mode>(l, t, p.alpha_inside, p.alpha_outside, p.gamma);
  const float slope = l.sigmoid * l.sigmoid_complement;
  return {soft.loss, soft.missing + soft.excess, soft.missing, {soft.grad, slope * t, slope}};
}

// Sums of a thread: over a run of rows, and over a run of runs.
struct RunSums {
  float focal = 0.0f, wrong = 0.0f, wrong_inside = 0.0f, inside = 0.0f;

  __device__ __forceinline__ void add(const RunSums& other) {
    focal += other.focal;
    wrong += other.wrong;
    wrong_inside += other.wrong_inside;
    inside += other.inside;
  }
};

// With a very negative logit and target 0, a pixel adds nothing to any sum, nor to a gradient.
__device__ __forceinline__ void leave_out(GroupFlags& flags, float (&v)[kMaskLossGroup],
                                          float (&values)[kMaskLossGroup]) {
  for (int k = 0; k < kMaskLossGroup; ++k) {
    if ((flags.left_out >> 8 * k & 0xff) == 0) continue;
    v[k] = -1e30f;
    values[k] = 0.0f;
    flags.inside &= ~(0xffu << 8 * k);
  }
}

// Adds a group of a target row to the sums and, with their weights, to the rows of the maps above and below it. Targets
// are `values`, or the bytes of `inside`.
template <Gamma mode, bool kValues, bool kGrad>
__device__ __forceinline__ void add_group(const MaskLossCudaParams& p, uint32_t inside,
                                          const float (&values)[kMaskLossGroup], const float (&v)[kMaskLossGroup],
                                          float below_weight, RunSums& run, float (&here)[3][kMaskLossGroup],
                                          float (&below)[3][kMaskLossGroup]) {
  const float here_weight = 1.0f - below_weight;
  for (int k = 0; k < kMaskLossGroup; ++k) {
    const bool is_inside = (inside & 0xffu << 8 * k) != 0;
    const PixelLoss pixel = kValues ? value_loss<mode>(p, v[k], values[k]) : flag_loss<mode>(p, v[k], is_inside);
    run.focal += pixel.focal;
    run.wrong += pixel.wrong;
    run.wrong_inside += pixel.wrong_inside;
    if (kValues) run.inside += values[k];
    if constexpr (kGrad) {
      for (int map = 0; map < 3; ++map) {
        here[map][k] += here_weight * pixel.grad[map];
        if (below_weight != 0.0f) below[map][k] += below_weight * pixel.grad[map];  // a gradient may be infinite
      }
    }
  }
}

}  // namespace maskformer_ext::cuda
