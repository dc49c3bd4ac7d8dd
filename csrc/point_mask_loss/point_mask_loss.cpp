// CPU kernels of point_mask_loss.
#include "point_mask_loss/point_mask_loss.h"

#include <algorithm>
#include <cstring>

#include "common/point_plane.h"
#include "dice_loss/dice_from_sums.h"
#include "point_mask_loss/target_lanes.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

// Points that are looked at together. A lane adds up kFloatRun of them in float.
constexpr int64_t kBlock = kFloatRun * kLanes;

// The first `count` lanes of a vector, 0 in the others.
FloatVec first_lanes(FloatVec vec, int64_t count) {
  return lane_numbers() < static_cast<int32_t>(std::min<int64_t>(count, kLanes)) ? vec : FloatVec{};
}

struct Sums {
  double loss = 0, wrong = 0, missing = 0, inside = 0;
};

// Adds what points [begin, end) of a mask contribute.
void add_block(const PointMaskLossParams& p, const PointPlane& plane, int64_t mask, int64_t begin, int64_t end,
               Sums& sums) {
  alignas(64) float targets[kBlock];
  sample_targets(p, mask, begin, end, targets);
  const float* points = p.points + 2 * mask * p.num_points;
  FloatVec loss{}, wrong{}, missing{}, inside{};
  for (int64_t i = begin; i < end; i += kLanes) {
    EntryLanes entries;
    plane.find(load_points(points + 2 * i, end - i), entries);
    const auto target = load<FloatVec>(targets + (i - begin));
    const SoftPixel<FloatVec> point =
        soft_pixel<Gamma::zero>(logistic(plane.sample(entries)), target, 1.0f, 1.0f, 0.0f);
    const FloatVec excess = end - i >= kLanes ? point.excess : first_lanes(point.excess, end - i);
    loss += end - i >= kLanes ? point.loss : first_lanes(point.loss, end - i);
    wrong += point.missing + excess;  // without target, nothing is missing
    missing += point.missing;
    inside += target;
  }
  sums.loss += sum_lanes(loss);
  sums.wrong += sum_lanes(wrong);
  sums.missing += sum_lanes(missing);
  sums.inside += sum_lanes(inside);
}

// Sums of gradients at the entries of a plane. They are in double, since any number of points may lie in one cell.
class GradientPlane {
 public:
  explicit GradientPlane(const PointPlane& plane)
      : height_(plane.height()), width_(plane.width()), columns_(plane.columns()), sums_(plane.size()), row_(width_) {}

  void clear() { std::fill(sums_.begin(), sums_.end(), 0.0); }

  // Adds, for each of the first `count` lanes in order, weight * grad to the four pixels of a point.
  __attribute__((always_inline)) void add(const EntryLanes& entries, FloatVec grad, int64_t count) {
    FloatVec part[4];
    for (int tap = 0; tap < 4; ++tap) {
      part[tap] = entries.weight[tap] * where_weighted(entries.weight[tap], grad);
    }
    transpose_fours(part);
    alignas(64) float of_point[4][kLanes];
    for (int i = 0; i < 4; ++i) store(of_point[i], part[i]);
    asm volatile("" : : "r"(of_point) : "memory");  // as store_lanes
    const int lanes = count < kLanes ? static_cast<int>(count) : kLanes;
    for (int lane = 0; lane < lanes; ++lane) {
      double* at = sums_.data() + 2 * int64_t{entries.entry[lane]};
      FloatQuad added;
      DoubleQuad sum;
      std::memcpy(&added, &of_point[lane % 4][lane / 4 * 4], sizeof(added));
      std::memcpy(&sum, at, sizeof(sum));
      sum += __builtin_convertvector(added, DoubleQuad);
      std::memcpy(at, &sum, sizeof(sum));
    }
  }

  // Writes the gradient of the map that the entries were made of.
  void write(void* to, DType dtype, int64_t begin) {
    for (int64_t y = 0; y < height_; ++y) {
      const double* __restrict lower = sums_.data() + 2 * (columns_ * y + 1) + 1;
      const double* __restrict upper = sums_.data() + 2 * (columns_ * (y + 1) + 1);
      float* __restrict row = row_.data();
      for (int64_t x = 0; x < width_; ++x) row[x] = static_cast<float>(lower[2 * x] + upper[2 * x]);
      store_floats(row, width_, to, dtype, begin + y * width_);
    }
  }

 private:
  typedef double DoubleQuad __attribute__((vector_size(32)));

  int64_t height_, width_, columns_;
  AlignedVector<double> sums_;
  AlignedVector<float> row_;
};

// The factors of a mask's gradient.
struct Factors {
  float cross_entropy, dice_inside, dice_all;
};

void add_gradients(const PointMaskLossParams& p, const PointPlane& plane, int64_t mask, const Factors& factors,
                   GradientPlane& gradient) {
  alignas(64) float targets[kBlock];
  const float* points = p.points + 2 * mask * p.num_points;
  for (int64_t begin = 0; begin < p.num_points; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, p.num_points);
    sample_targets(p, mask, begin, end, targets);
    for (int64_t i = begin; i < end; i += kLanes) {
      EntryLanes entries;
      plane.find(load_points(points + 2 * i, end - i), entries);
      const auto t = load<FloatVec>(targets + (i - begin));
      const Logistic<FloatVec> l = logistic(plane.sample(entries));
      const FloatVec slope = l.sigmoid * l.sigmoid_complement;
      const FloatVec of_cross_entropy = (1.0f - t) * l.sigmoid - t * l.sigmoid_complement;
      const FloatVec of_dice = slope * (factors.dice_inside * t + factors.dice_all);
      gradient.add(entries, factors.cross_entropy * of_cross_entropy + of_dice, end - i);
    }
  }
}

}  // namespace

void point_mask_loss_fwd(const PointMaskLossParams& p, int64_t begin, int64_t end) {
  PointPlane plane(p.height, p.width);
  for (int64_t mask = begin; mask < end; ++mask) {
    float* coefficients = p.coefficients + 3 * mask;
    p.cross_entropy[mask] = p.dice[mask] = coefficients[0] = coefficients[1] = coefficients[2] = 0.0f;
    if (p.plane[mask] < 0) continue;
    plane.fill(p.logits, p.logits_dtype, mask * p.mask_stride, p.row_stride);
    Sums sums;
    for (int64_t i = 0; i < p.num_points; i += kBlock) {
      add_block(p, plane, mask, i, std::min(i + kBlock, p.num_points), sums);
    }
    const Dice dice = dice_from_sums(sums.wrong, sums.missing, sums.inside);
    p.cross_entropy[mask] = static_cast<float>(sums.loss / static_cast<double>(p.num_points));
    p.dice[mask] = dice.loss;
    coefficients[0] = static_cast<float>(1.0 / static_cast<double>(p.num_points));
    coefficients[1] = dice.factor_inside;
    coefficients[2] = dice.factor_all;
  }
}

void point_mask_loss_bwd(const PointMaskLossGradParams& params, int64_t begin, int64_t end) {
  const PointMaskLossParams& p = params.forward;
  PointPlane plane(p.height, p.width);
  GradientPlane gradient(plane);
  for (int64_t mask = begin; mask < end; ++mask) {
    gradient.clear();
    if (p.plane[mask] >= 0) {
      const float* coefficients = params.coefficients + 3 * mask;
      const float of_dice = params.grad_dice != nullptr ? params.grad_dice[mask] : 0.0f;
      const float of_cross_entropy = params.grad_cross_entropy != nullptr ? params.grad_cross_entropy[mask] : 0.0f;
      const Factors factors = {of_cross_entropy * coefficients[0], of_dice * coefficients[1],
                               of_dice * coefficients[2]};
      plane.fill(p.logits, p.logits_dtype, mask * p.mask_stride, p.row_stride);
      add_gradients(p, plane, mask, factors, gradient);
    }
    gradient.write(params.grad_logits, p.logits_dtype, mask * p.height * p.width);
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
