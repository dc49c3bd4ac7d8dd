// The inner loop of the mask loss: one target row against one vertically resized row of logits.
#pragma once

#include <cstdint>

#include "common/math.h"
#include "common/resize_taps.h"
#include "common/vec.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// What a row of targets holds: nothing inside, zeros and ones, or values between.
enum class RowKind { outside, flags, values };

// A flag byte of a target pixel.
inline constexpr uint32_t kInside = 1, kLeftOut = 2;
inline constexpr int kMaps = 3;

struct LossRow {
  const float* logits;    // (cells,) with one element before and one after
  const float* next;      // (cells,) logits + 1, or zeros where nothing is resized (ResizeCells::unchanged)
  const uint32_t* flags;  // (groups, cells): byte p % 4 of group p / 4 is the flag of slot p
  const float* values;    // (slots, cells), where the row is of kind values
  const ResizeCells* columns;
  float alpha_inside, alpha_outside, gamma;
  // Gradients of the three maps with respect to samples i - 1, i and i + 1, summed over the slots of cell i.
  float* before[kMaps];
  float* centre[kMaps];
  float* after[kMaps];
};

struct RowSums {
  FloatVec focal{}, wrong{}, wrong_inside{};
};

// Adds one vector of pixels to the sums, and computes what goes into the three maps.
template <RowKind kind, bool masked, Gamma gamma_mode, bool with_grad>
inline __attribute__((always_inline)) void loss_pixels(const LossRow& row, FloatVec v, uint32_t shift, IntVec flags,
                                                       FloatVec t, RowSums& sums, FloatVec (&grad)[kMaps]) {
  const auto flag_mask = [&](uint32_t bit) __attribute__((always_inline)) {  // all ones where the bit is set
    return (flags << static_cast<int>(31 - bit - shift)) >> 31;
  };
  if constexpr (masked) {  // a very negative logit with target 0 adds nothing to any sum, nor to a gradient
    const IntVec left_out = flag_mask(1);
    v = left_out ? broadcast(-1e30f) : v;
    if constexpr (kind == RowKind::values) t = left_out ? FloatVec{} : t;
  }
  if constexpr (kind == RowKind::values) {
    const Logistic<FloatVec> p = logistic(v);
    const SoftPixel<FloatVec> pixel = soft_pixel<gamma_mode>(p, t, row.alpha_inside, row.alpha_outside, row.gamma);
    sums.focal += pixel.loss;
    sums.wrong += pixel.missing + pixel.excess;
    sums.wrong_inside += pixel.missing;
    if constexpr (with_grad) {
      const FloatVec slope = p.sigmoid * p.sigmoid_complement;
      grad[0] = pixel.grad;
      grad[1] = slope * t;
      grad[2] = slope;
    }
  } else {
    const IntVec inside = kind == RowKind::flags ? flag_mask(0) : IntVec{};
    const IntVec sign = inside & INT32_MIN;
    const Logistic<FloatVec> p = logistic((FloatVec)((IntVec)v ^ sign));
    const FocalTerm<FloatVec> focal = focal_wrong<gamma_mode>(p, row.gamma);
    const FloatVec outside_weight = broadcast(row.alpha_outside);
    const FloatVec weight =
        kind == RowKind::flags ? (inside ? broadcast(row.alpha_inside) : outside_weight) : outside_weight;
    sums.focal += weight * focal.loss;
    sums.wrong += p.sigmoid;
    if constexpr (kind == RowKind::flags) sums.wrong_inside += (FloatVec)((IntVec)p.sigmoid & inside);
    if constexpr (with_grad) {
      const FloatVec slope = p.sigmoid * p.sigmoid_complement;
      grad[0] = (FloatVec)((IntVec)(weight * focal.grad) ^ sign);
      grad[1] = (FloatVec)((IntVec)slope & inside);
      grad[2] = slope;
    }
  }
}

// Sweeps the pixels of cells [first, last), both multiples of the vector's width. With `four`, a cell has the slots of
// a factor of 4: two before its sample and two after. Without a loop over slots the constants stay in registers. The
// compiler then interleaves four pixels, which is a third faster.
template <RowKind kind, bool masked, Gamma gamma_mode, bool with_grad, bool four>
void loss_cells(const LossRow& row, int64_t first, int64_t last, RowSums& total) {
  const ResizeCells& columns = *row.columns;
  const int64_t stride = columns.cells;
  RowSums sums = total;
  for (int64_t i = first; i < last; i += kLanes) {
    const FloatVec previous = load<FloatVec>(row.logits + i - 1);
    const FloatVec current = load<FloatVec>(row.logits + i);
    const FloatVec next = load<FloatVec>(row.next + i);
    FloatVec before[kMaps]{}, centre[kMaps]{}, after[kMaps]{};
    const auto slot = [&](int64_t p, FloatVec lower, FloatVec upper, FloatVec(&lower_grad)[kMaps],
                          FloatVec(&upper_grad)[kMaps], RowSums& sums) __attribute__((always_inline)) {
      const FloatVec lower_weight = load<FloatVec>(columns.lower_weight.data() + p * stride + i);
      const FloatVec upper_weight = load<FloatVec>(columns.upper_weight.data() + p * stride + i);
      IntVec flags{};
      if constexpr (kind != RowKind::outside || masked) flags = load<IntVec>(row.flags + (p >> 2) * stride + i);
      FloatVec t{};
      if constexpr (kind == RowKind::values) t = load<FloatVec>(row.values + p * stride + i);
      FloatVec grad[kMaps];
      loss_pixels<kind, masked, gamma_mode, with_grad>(row, lower_weight * lower + upper_weight * upper,
                                                       8 * static_cast<uint32_t>(p & 3), flags, t, sums, grad);
      if constexpr (with_grad) {
        for (int map = 0; map < kMaps; ++map) {
          if (kind == RowKind::outside && map == 1) continue;
          lower_grad[map] += lower_weight * grad[map];
          upper_grad[map] += upper_weight * grad[map];
        }
      }
    };
    if constexpr (four) {
      slot(0, previous, current, before, centre, sums);
      slot(1, previous, current, before, centre, sums);
      slot(2, current, next, centre, after, sums);
      slot(3, current, next, centre, after, sums);
    } else {
      for (int64_t p = 0; p < columns.slots;) {  // a run at a time, all on one side of the sample
        const bool first_side = p < columns.slots_before;
        const int64_t side_end = first_side ? columns.slots_before : columns.slots;
        const int64_t run_end = p + kFloatRun < side_end ? p + kFloatRun : side_end;
        const FloatVec lower = first_side ? previous : current, upper = first_side ? current : next;
        FloatVec lower_grad[kMaps]{}, upper_grad[kMaps]{};
        RowSums run_sums;
        for (; p < run_end; ++p) slot(p, lower, upper, lower_grad, upper_grad, run_sums);
        sums.focal += run_sums.focal;
        sums.wrong += run_sums.wrong;
        sums.wrong_inside += run_sums.wrong_inside;
        for (int map = 0; with_grad && map < kMaps; ++map) {
          (first_side ? before : centre)[map] += lower_grad[map];
          (first_side ? centre : after)[map] += upper_grad[map];
        }
      }
    }
    if constexpr (with_grad) {
      for (int map = 0; map < kMaps; ++map) {
        if (kind == RowKind::outside && map == 1) continue;
        store(row.before[map] + i, before[map]);
        store(row.centre[map] + i, centre[map]);
        store(row.after[map] + i, after[map]);
      }
    }
  }
  total = sums;
}

// Chooses among the instances of loss_cells by what is known only at run time.
using LossCells = void (*)(const LossRow&, int64_t, int64_t, RowSums&);

template <Gamma gamma_mode, bool with_grad, bool four>
inline LossCells loss_cells_of(RowKind kind, bool masked) {
  if (kind == RowKind::values) return loss_cells<RowKind::values, true, gamma_mode, with_grad, false>;
  if (kind == RowKind::flags) {
    return masked ? loss_cells<RowKind::flags, true, gamma_mode, with_grad, four>
                  : loss_cells<RowKind::flags, false, gamma_mode, with_grad, four>;
  }
  return masked ? loss_cells<RowKind::outside, true, gamma_mode, with_grad, four>
                : loss_cells<RowKind::outside, false, gamma_mode, with_grad, four>;
}

template <Gamma gamma_mode, bool with_grad>
inline LossCells loss_cells_of(RowKind kind, bool masked, bool four) {
  return four ? loss_cells_of<gamma_mode, with_grad, true>(kind, masked)
              : loss_cells_of<gamma_mode, with_grad, false>(kind, masked);
}

inline LossCells loss_cells_of(const LossRow& row, RowKind kind, bool masked, bool with_grad) {
  const bool four = row.columns->slots == 4 && row.columns->slots_before == 2;
  if (row.gamma == 2.0f) {
    return with_grad ? loss_cells_of<Gamma::two, true>(kind, masked, four)
                     : loss_cells_of<Gamma::two, false>(kind, masked, four);
  }
  if (row.gamma == 0.0f) {
    return with_grad ? loss_cells_of<Gamma::zero, true>(kind, masked, four)
                     : loss_cells_of<Gamma::zero, false>(kind, masked, four);
  }
  return with_grad ? loss_cells_of<Gamma::general, true, false>(kind, masked)
                   : loss_cells_of<Gamma::general, false, false>(kind, masked);
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
