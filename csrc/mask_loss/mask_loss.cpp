// CPU kernels of the mask loss: the sweep over target rows, the combination of blocks, and the gradient.
#include "mask_loss/mask_loss.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "dice_loss/dice_from_sums.h"
#include "mask_loss/target_rows.h"
#include "mask_loss/tile.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

int64_t block_begin(const MaskLossParams& p, int64_t block) { return block * p.target_height / p.blocks; }

// The last row of logits that the blocks before this one touch, -1 for the first block.
int64_t last_touched_before(const MaskLossParams& p, int64_t block) {
  return block == 0 ? -1 : resize_tap(block_begin(p, block) - 1, p.height, p.target_height).upper;
}

// What one worker needs for a mask's rows. Everything has the size of a row.
class Sweep {
 public:
  explicit Sweep(const MaskLossParams& params)
      : p_(params),
        targets_(params),
        cells_(params.columns->cells),
        resized_(cells_ + 2 * kMargin),
        zeros_(cells_),
        sums_{} {
    if (p_.logits_dtype != DType::float32) converted_.resize(2 * p_.width);
    if (p_.maps != nullptr) {
      pieces_.resize(3 * kMaps * (cells_ + 2 * kMargin));
      for (int map = 0; map < kMaps; ++map) {
        row_.before[map] = piece(3 * map);
        row_.centre[map] = piece(3 * map + 1);
        row_.after[map] = piece(3 * map + 2);
      }
    }
    row_.logits = resized_.data() + kMargin;
    row_.next = p_.columns->unchanged() ? zeros_.data() : row_.logits + 1;
    row_.columns = p_.columns;
    row_.alpha_inside = p_.alpha_inside;
    row_.alpha_outside = p_.alpha_outside;
    row_.gamma = p_.gamma;
  }

  void block(int64_t mask, int64_t block) {
    mask_ = mask;
    owned_after_ = last_touched_before(p_, block);
    if (p_.maps != nullptr) clear_outputs(block);
    held_[0] = held_[1] = -1;
    sums_ = {};
    for (int64_t y = block_begin(p_, block); y < block_begin(p_, block + 1); ++y) target_row(y);
    p_.sums[mask * p_.blocks + block] = sums_;
  }

 private:
  static constexpr int64_t kMargin = 16;  // keeps reads one element beyond either end inside

  float* piece(int index) { return pieces_.data() + index * (cells_ + 2 * kMargin) + kMargin; }

  // This block owns the rows after owned_after_, up to the last one that it touches. The last block owns all that are
  // left.
  void clear_outputs(int64_t block) {
    const int64_t last = block + 1 == p_.blocks ? p_.height - 1 : last_touched_before(p_, block + 1);
    for (int map = 0; map < kMaps; ++map) {
      float* rows = p_.maps + ((mask_ * kMaps + map) * p_.height + owned_after_ + 1) * p_.width;
      std::memset(rows, 0, (last - owned_after_) * p_.width * sizeof(float));
    }
    edges_ = p_.edges + (mask_ * p_.blocks + block) * kMaps * 2 * p_.width;
    std::memset(edges_, 0, kMaps * 2 * p_.width * sizeof(float));
  }

  float* output_row(int map, int64_t y) const {
    if (y > owned_after_) return p_.maps + ((mask_ * kMaps + map) * p_.height + y) * p_.width;
    return edges_ + (map * 2 + y - (owned_after_ - 1)) * p_.width;
  }

  // A row of logits as float32. A converted row is kept until two others were needed.
  const float* logits_row(int64_t y) {
    const int64_t offset = mask_ * p_.logits_mask_stride + y * p_.logits_row_stride;
    if (p_.logits_dtype == DType::float32) return static_cast<const float*>(p_.logits) + offset;
    float* row = converted_.data() + (y & 1) * p_.width;
    if (held_[y & 1] != y) {
      for_float_type(p_.logits_dtype, [&](auto type) {
        const auto* from = static_cast<const decltype(type)*>(p_.logits) + offset;
#pragma omp simd
        for (int64_t x = 0; x < p_.width; ++x) row[x] = to_float(from[x]);
      });
      held_[y & 1] = y;
    }
    return row;
  }

  void target_row(int64_t y) {
    targets_.read(mask_, y);
    sums_.inside += targets_.inside();
    sums_.pixels += static_cast<double>(targets_.pixels());
    const ResizeTap tap = resize_tap(y, p_.height, p_.target_height);
    resize_down(tap);
    row_.flags = targets_.flags();
    row_.values = targets_.values();
    const bool with_grad = p_.maps != nullptr;
    // Only the last vector has cells that do not exist.
    const int64_t full = p_.width / kLanes * kLanes;
    const int64_t span = std::max<int64_t>(1, kFloatRun / p_.columns->slots) * kLanes;
    const LossCells sweep = loss_cells_of(row_, targets_.kind(), targets_.masked(), with_grad);
    for (int64_t i = 0; i < full; i += span) add_cells(sweep, i, std::min(i + span, full));
    if (full < p_.width) add_cells(loss_cells_of(row_, targets_.kind(), true, with_grad), full, full + kLanes);
    if (!with_grad) return;
    for (int map = 0; map < kMaps; ++map) {
      if (map == 1 && targets_.kind() == RowKind::outside) continue;
      push_up(map, tap);
    }
  }

  void add_cells(LossCells sweep, int64_t first, int64_t last) {
    RowSums sums;
    sweep(row_, first, last, sums);
    sums_.focal += sum_lanes(sums.focal);
    sums_.wrong += sum_lanes(sums.wrong);
    if (targets_.kind() != RowKind::outside) sums_.wrong_inside += sum_lanes(sums.wrong_inside);
  }

  void resize_down(const ResizeTap& tap) {
    const float* lower = logits_row(tap.lower);
    const float* upper = tap.weight == 0.0f ? zeros_.data() : logits_row(tap.upper);
    const float upper_weight = tap.weight, lower_weight = 1.0f - tap.weight;
    float* row = resized_.data() + kMargin;
    const int64_t width = p_.width;
#pragma omp simd
    for (int64_t x = 0; x < width; ++x) row[x] = lower_weight * lower[x] + upper_weight * upper[x];
    row[-1] = row[0];
    row[width] = row[width - 1];
  }

  // The transposed resize: from the cells' sums to a row of samples, and from there to the two rows of the map.
  void push_up(int map, const ResizeTap& tap) {
    const int64_t width = p_.width;
    float *before = row_.before[map], *centre = row_.centre[map], *after = row_.after[map];
    float* lower = output_row(map, tap.lower);
    float* upper = output_row(map, tap.upper);
    const float upper_weight = tap.weight, lower_weight = 1.0f - tap.weight;
    if (p_.columns->unchanged()) {  // nothing goes to the neighbours, not even 0 times an infinite gradient
      std::fill(before, before + width, 0.0f);
      std::fill(after, after + width, 0.0f);
    }
    centre[0] += before[0];  // samples beyond the ends repeat the end
    centre[width - 1] += after[width - 1];
    before[width] = after[-1] = 0.0f;
    if (upper_weight == 0.0f) {
#pragma omp simd
      for (int64_t x = 0; x < width; ++x) lower[x] += before[x + 1] + centre[x] + after[x - 1];
    } else {
#pragma omp simd
      for (int64_t x = 0; x < width; ++x) {
        const float grad = before[x + 1] + centre[x] + after[x - 1];
        lower[x] += lower_weight * grad;
        upper[x] += upper_weight * grad;
      }
    }
  }

  const MaskLossParams& p_;
  TargetRows targets_;
  int64_t cells_;
  std::vector<float> resized_, converted_, pieces_;
  std::vector<float> zeros_;  // stands for a neighbour of weight 0, since 0 times an infinite one would be NaN
  LossRow row_{};
  MaskLossSums sums_;
  int64_t mask_ = 0, owned_after_ = -1;
  int64_t held_[2] = {-1, -1};
  float* edges_ = nullptr;
};

}  // namespace

void mask_loss_fwd(const MaskLossParams& params, int64_t begin, int64_t end) {
  Sweep sweep(params);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t mask = item % params.masks;
    if (params.plane[mask] >= 0) sweep.block(mask, item / params.masks);
  }
}

void mask_loss_finish(const MaskLossParams& p, int64_t begin, int64_t end) {
  for (int64_t mask = begin; mask < end; ++mask) {
    float* coefficients = p.coefficients + mask * kMaps;
    if (p.plane[mask] < 0) {
      p.focal[mask] = p.dice[mask] = 0.0f;
      for (int map = 0; map < kMaps; ++map) coefficients[map] = 0.0f;
      if (p.maps != nullptr) {
        const int64_t elements = kMaps * p.height * p.width;
        std::memset(p.maps + mask * elements, 0, elements * sizeof(float));
      }
      continue;
    }
    MaskLossSums sum = {};
    for (int64_t block = 0; block < p.blocks; ++block) {
      const MaskLossSums& part = p.sums[mask * p.blocks + block];
      sum.focal += part.focal;
      sum.wrong += part.wrong;
      sum.wrong_inside += part.wrong_inside;
      sum.inside += part.inside;
      sum.pixels += part.pixels;
      if (p.maps == nullptr || block == 0) continue;
      const int64_t owned_after = last_touched_before(p, block);
      for (int map = 0; map < kMaps; ++map) {
        for (int64_t edge = 0; edge < 2; ++edge) {
          const int64_t y = owned_after - 1 + edge;
          if (y < 0) continue;
          const float* from = p.edges + (((mask * p.blocks + block) * kMaps + map) * 2 + edge) * p.width;
          float* to = p.maps + ((mask * kMaps + map) * p.height + y) * p.width;
#pragma omp simd
          for (int64_t x = 0; x < p.width; ++x) to[x] += from[x];
        }
      }
    }
    const Dice dice = dice_from_sums(sum.wrong, sum.wrong_inside, sum.inside);
    const double pixels = sum.pixels < 1.0 ? 1.0 : sum.pixels;
    p.focal[mask] = static_cast<float>(sum.focal / pixels);
    p.dice[mask] = dice.loss;
    coefficients[0] = static_cast<float>(1.0 / pixels);
    coefficients[1] = dice.factor_inside;
    coefficients[2] = dice.factor_all;
  }
}

void mask_loss_bwd(const MaskLossGradParams& p, int64_t begin, int64_t end) {
  for_float_type(p.dtype, [&](auto type) {
    using T = decltype(type);
    for (int64_t mask = begin; mask < end; ++mask) {
      const float* coefficients = p.coefficients + mask * kMaps;
      T* grad = static_cast<T*>(p.grad_logits) + mask * p.pixels;
      if (coefficients[0] == 0.0f && coefficients[1] == 0.0f) {  // left out: zero whatever arrives
        std::memset(grad, 0, p.pixels * sizeof(T));
        continue;
      }
      const float focal = p.grad_focal != nullptr ? p.grad_focal[mask] * coefficients[0] : 0.0f;
      const float dice = p.grad_dice != nullptr ? p.grad_dice[mask] : 0.0f;
      const float inside = dice * coefficients[1], all = dice * coefficients[2];
      const float* maps = p.maps + mask * kMaps * p.pixels;
      if (p.grad_focal == nullptr) {  // its map may be infinite, and 0 times that is NaN
#pragma omp simd
        for (int64_t i = 0; i < p.pixels; ++i) {
          grad[i] = from_float<T>(inside * maps[p.pixels + i] + all * maps[2 * p.pixels + i]);
        }
        continue;
      }
#pragma omp simd
      for (int64_t i = 0; i < p.pixels; ++i) {
        grad[i] = from_float<T>(focal * maps[i] + inside * maps[p.pixels + i] + all * maps[2 * p.pixels + i]);
      }
    }
  });
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
