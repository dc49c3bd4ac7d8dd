// CPU kernel of box_matching_cost: a query at a time, with a lane per object of its image.
#include "box_matching_cost/box_matching_cost.h"

#include <algorithm>
#include <cmath>

#include "box_matching_cost/pair_cost.h"
#include "common/convert.h"
#include "common/vec.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

using Params = BoxMatchingCostParams;
using Scratch = BoxMatchingCostScratch;

int64_t rounded_up(int64_t n) { return (n + Scratch::lanes - 1) / Scratch::lanes * Scratch::lanes; }

// Lays out the boxes of an image's objects by coordinate. The padding repeats a box of width and height 1.
void load_targets(const Params& p, int64_t image, const Scratch& scratch) {
  const int64_t count = p.num_segments[image], stride = rounded_up(p.targets);
  const float* boxes = p.target_boxes + image * p.targets * 4;
  for (int64_t side = 0; side < 4; ++side) {
    float* to = scratch.target_boxes + side * stride;
    for (int64_t t = 0; t < count; ++t) to[t] = boxes[4 * t + side];
    std::fill(to + count, to + rounded_up(count), 1.0f);
  }
}

// Gathers the logit of each object's class. The padding is 0.
void load_logits(const Params& p, int64_t row, const int64_t* labels, int64_t count, float* to) {
  for_float_type(p.logits_dtype, [&](auto type) {
    const auto* logits = static_cast<const decltype(type)*>(p.logits) + row * p.classes;
    for (int64_t t = 0; t < count; ++t) to[t] = to_float(logits[labels[t]]);
  });
  std::fill(to + count, to + rounded_up(count), 0.0f);
}

// What the softmax of a row is made of: its class k has the probability exp(x[k] - largest) * inverse_sum.
struct Softmax {
  float largest = 0.0f, inverse_sum = 0.0f;
};

Softmax softmax_of(const Params& p, int64_t row, float* x) {
  load_floats(p.logits, p.logits_dtype, row * p.classes, p.classes, x);
  const int64_t end = rounded_up(p.classes);
  std::fill(x + p.classes, x + end, -INFINITY);
  FloatVec most = load<FloatVec>(x);
  for (int64_t k = kLanes; k < end; k += kLanes) {
    const FloatVec next = load<FloatVec>(x + k);
    most = next > most ? next : most;
  }
  // A NaN may hide from the maximum, but not from the sum. Nothing but infinities gives infinity less infinity there.
  const float largest = max_lanes(most);
  double sum = 0.0;
  for (int64_t part = 0; part < end; part += kFloatRun * kLanes) {
    FloatVec of_part{};
    for (int64_t k = part; k < std::min(part + kFloatRun * kLanes, end); k += kLanes) {
      of_part += exp_nonpositive(load<FloatVec>(x + k) - largest);
    }
    sum += sum_lanes(of_part);
  }
  return {largest, static_cast<float>(1.0 / sum)};
}

// Writes the costs of a row, the padding of the last vector included.
template <class ClassCost>
void write_costs(const Params& p, const Scratch& scratch, const float* query, int64_t count, ClassCost class_cost) {
  const int64_t stride = rounded_up(p.targets);
  const float* target = scratch.target_boxes;
  const Box<FloatVec> box = {broadcast(query[0]), broadcast(query[1]), broadcast(query[2]), broadcast(query[3])};
  for (int64_t t = 0; t < count; t += kLanes) {
    const Box<FloatVec> object = {load<FloatVec>(target + t), load<FloatVec>(target + stride + t),
                                  load<FloatVec>(target + 2 * stride + t), load<FloatVec>(target + 3 * stride + t)};
    const FloatVec of_class = class_cost(load<FloatVec>(scratch.logits + t));
    store(scratch.costs + t,
          finite_or_infinity(p.class_weight * of_class + box_cost(box, object, p.box_weight, p.giou_weight)));
  }
}

template <Gamma mode>
void write_focal_costs(const Params& p, const Scratch& scratch, const float* query, int64_t count) {
  write_costs(p, scratch, query, count,
              [&](FloatVec x) { return focal_class_cost<mode>(x, p.alpha_positive, p.alpha_negative, p.gamma); });
}

void cost_row(const Params& p, const Scratch& scratch, int64_t row, int64_t image) {
  const int64_t count = p.num_segments[image];
  float* cost = p.cost + row * p.targets;
  std::fill(cost + count, cost + p.targets, 0.0f);
  if (count == 0) return;
  load_logits(p, row, p.labels + image * p.targets, count, scratch.logits);
  float query[4];
  load_floats(p.boxes, p.boxes_dtype, row * 4, 4, query);
  if (p.softmax) {
    const Softmax softmax = softmax_of(p, row, scratch.row);
    write_costs(p, scratch, query, count,
                [&](FloatVec x) { return -softmax.inverse_sum * exp_nonpositive(x - softmax.largest); });
  } else if (p.gamma == 2.0f) {
    write_focal_costs<Gamma::two>(p, scratch, query, count);
  } else if (p.gamma == 0.0f) {
    write_focal_costs<Gamma::zero>(p, scratch, query, count);
  } else {
    write_focal_costs<Gamma::general>(p, scratch, query, count);
  }
  std::copy(scratch.costs, scratch.costs + count, cost);
}

}  // namespace

void box_matching_cost_fwd(const BoxMatchingCostParams& params, const BoxMatchingCostScratch& scratch, int64_t begin,
                           int64_t end) {
  int64_t loaded = -1;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t image = row / params.queries % params.images;
    if (image != loaded) load_targets(params, image, scratch);
    loaded = image;
    cost_row(params, scratch, row, image);
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
