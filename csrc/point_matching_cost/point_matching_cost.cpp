// CPU kernel of point_matching_cost: the planes of a block of queries are laid side by side, so that a tap is one load.
#include "point_matching_cost/point_matching_cost.h"

#include "common/transpose.h"
#include "point_matching_cost/point_sums.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

// Writes (pixels + 1, kQueryBlock): the masks of a block, and zeros for what lies outside. Beyond the last query, the
// block repeats others, whose results nobody reads.
template <class T>
void lay_planes(const T* masks, int64_t queries, int64_t pixels, float* planes) {
  for (int64_t lane = 0; lane < kQueryBlock; lane += kLanes) {
    if (lane + kLanes <= queries) {
      transpose_rows(masks + lane * pixels, pixels, pixels, planes + lane, kQueryBlock);
      continue;
    }
    for (int64_t q = lane; q < lane + kLanes; ++q) {
      const T* mask = masks + std::min(q, queries - 1) * pixels;
      for (int64_t i = 0; i < pixels; ++i) planes[i * kQueryBlock + q] = to_float(mask[i]);
    }
  }
  std::fill_n(planes + pixels * kQueryBlock, kQueryBlock, 0.0f);
}

void sample_tile(const PointTargets& targets, int64_t tile, const float* planes, float* logits) {
  for (int64_t i = 0; i < kPointTile; ++i) {
    const int32_t* tap = targets.tap + 4 * (tile * kPointTile + i);
    const float* weight = targets.tap_weight + 4 * (tile * kPointTile + i);
#pragma GCC unroll 4
    for (int64_t lane = 0; lane < kQueryBlock; lane += kLanes) {
      FloatVec sum{};
#pragma GCC unroll 4
      for (int t = 0; t < 4; ++t) sum += weight[t] * load<FloatVec>(planes + tap[t] * kQueryBlock + lane);
      store(logits + i * kQueryBlock + lane, sum);
    }
  }
}

void cost_block(const PointMatchingCostParams& p, const PointMatchingCostScratch& scratch, int64_t item) {
  const PointCostParams& c = p.cost;
  const int64_t problem = item / p.blocks(), image = problem % c.images;
  const int64_t first = item % p.blocks() * kQueryBlock, queries = std::min(kQueryBlock, c.queries - first);
  const int64_t row = (p.first_layer * c.images + problem) * c.queries + first;
  const PointTargets& targets = p.targets[problem];
  const int64_t num_segments = c.num_segments[image];
  const PointSums sums = {.sums = scratch.sums, .stride = kQueryBlock};
  IntVec wrong[kQueryBlock / kLanes]{};
  if (num_segments > 0) {
    for_float_type(p.mask_dtype, [&](auto type) {
      lay_planes(static_cast<const decltype(type)*>(p.mask_logits) + row * p.pixels, queries, p.pixels, scratch.planes);
    });
    std::fill_n(sums.sums, point_sums_rows(targets.inside != nullptr, num_segments) * kQueryBlock, 0.0);
    alignas(64) float logits[kPointTile * kQueryBlock];
    for (int64_t tile = 0; tile < targets.tiles(); ++tile) {
      sample_tile(targets, tile, scratch.planes, logits);
      for (int64_t lane = 0; lane < kQueryBlock; lane += kLanes)
        add_tile(targets, num_segments, tile, logits, kQueryBlock, sums, lane, wrong[lane / kLanes]);
    }
  }
  for (int64_t q = 0; q < queries; ++q) {
    const bool finite = wrong[q / kLanes][q % kLanes] == 0;
    write_point_costs(c, targets, row + q, finite, sums.sums + q, kQueryBlock, scratch.probability);
  }
}

}  // namespace

void point_matching_cost_fwd(const PointMatchingCostParams& params, const PointMatchingCostScratch& scratch,
                             int64_t begin, int64_t end) {
  for (int64_t item = begin; item < end; ++item) cost_block(params, scratch, item);
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
