// CPU kernel that orders points by the segments they lie in, and divides each among those.
#include <algorithm>

#include "common/point_taps.h"
#include "point_matching_cost/point_matching_cost.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

constexpr float kWhole = 1.0f;

// The taps of a point in the targets: those that are inside have a weight.
PointTaps target_taps(const PointTargetsParams& p, float x, float y) {
  if (!p.nearest) return point_taps(x, y, p.target_height, p.target_width, p.target_width);
  const int64_t pixel = nearest_pixel(x, y, p.target_height, p.target_width, p.target_width);
  PointTaps taps = {};
  taps.index[0] = pixel < 0 ? 0 : pixel;
  taps.weight[0] = pixel < 0 ? 0.0f : kWhole;
  return taps;
}

template <class Id>
PointOwners owners_of(const PointTargetsParams& p, const Id* map, const PointTaps& taps) {
  const auto num_segments = static_cast<int32_t>(p.num_segments);
  PointOwners owners = {.group = {num_segments}, .share = {0.0f}, .count = 1};
  const int32_t first = map[taps.index[0]];
  const bool one = first == map[taps.index[1]] && first == map[taps.index[2]] && first == map[taps.index[3]];
  if (one && taps.weight[0] != 0.0f && taps.weight[3] != 0.0f) {  // far from every border, as most points are
    owners.group[0] = first < 0 ? num_segments : first;
    owners.share[0] = kWhole;
    return owners;
  }
  float inside = 0.0f;
  for (int tap = 0; tap < 4; ++tap) {
    if (taps.weight[tap] == 0.0f) continue;
    const int32_t id = map[taps.index[tap]];
    inside += taps.weight[tap];
    int at = 0;  // ids below 0 are void; those beyond num_segments were refused
    if (id >= 0) {
      at = 1;
      while (at < owners.count && owners.group[at] != id) ++at;
      if (at == owners.count) {
        owners.group[at] = id;
        owners.share[at] = 0.0f;
        ++owners.count;
      }
    }
    owners.share[at] += taps.weight[tap];
  }
  const float outside = kWhole - inside;  // a rounding error where all taps are inside
  if (outside > 1e-6f) owners.share[0] += outside;
  return owners;
}

// Orders points by their keys, in turn the row of predictions and the group. `order` is the result.
void sort_points(const int32_t* key, int64_t keys, const int32_t* from, int64_t count, int32_t* begin, int32_t* order) {
  std::fill_n(begin, keys + 1, 0);
  for (int64_t i = 0; i < count; ++i) ++begin[key[i] + 1];
  for (int64_t k = 0; k < keys; ++k) begin[k + 1] += begin[k];
  for (int64_t i = 0; i < count; ++i) {
    const int32_t point = from == nullptr ? static_cast<int32_t>(i) : from[i];
    order[begin[key[point]]++] = point;
  }
}

int32_t prediction_row(const PointTargetsParams& p, float y) {
  const float row = point_position(y, static_cast<float>(p.height));
  return row >= 0.0f && row < static_cast<float>(p.height) ? static_cast<int32_t>(row) : 0;
}

void write_prediction_taps(const PointTargetsParams& p, int32_t point, int32_t* tap, float* weight) {
  const float* at = p.points + 2 * static_cast<int64_t>(point);
  const PointTaps taps = point_taps(at[0], at[1], p.height, p.width, p.width);
  for (int i = 0; i < 4; ++i) {  // a pixel without weight adds nothing, even if it is infinite
    tap[i] = static_cast<int32_t>(taps.weight[i] != 0.0f ? taps.index[i] : p.height * p.width);
    weight[i] = taps.weight[i];
  }
}

// Lists the shares of every tile, group by group.
class TileLister {
 public:
  TileLister(const PointTargetsParams& p, PointTargets& targets, int32_t* slot)
      : p_(p), targets_(targets), slot_(slot) {
    std::fill_n(slot_, p.num_segments + 1, -1);
    std::fill_n(targets.area, p.num_segments, 0.0);
  }

  void list(const int32_t* order) {
    for (int64_t tile = 0; tile < targets_.tiles(); ++tile) {
      const int64_t first = tile * kPointTile, count = std::min(kPointTile, targets_.count - first);
      targets_.tile_begin[tile] = groups_;
      for (int64_t i = 0; i < count; ++i) {
        const PointOwners& owners = p_.owners[order[first + i]];
        for (int k = 0; k < owners.count; ++k) count_share(owners.group[k], owners.share[k]);
      }
      place_shares(order + first, count, targets_.tile_begin[tile]);
    }
    targets_.tile_begin[targets_.tiles()] = groups_;
  }

 private:
  const PointTargetsParams& p_;
  PointTargets& targets_;
  int32_t* slot_;  // the place of each group of this tile in the list of groups
  int32_t groups_ = 0, shares_ = 0;

  void count_share(int32_t group, float share) {
    if (share == 0.0f) return;
    if (slot_[group] < 0) {
      slot_[group] = groups_;
      targets_.groups[groups_++] = {.group = group, .begin = 0, .end = 0};
    }
    ++targets_.groups[slot_[group]].end;
    if (group < p_.num_segments) targets_.area[group] += share;
  }

  void place_shares(const int32_t* order, int64_t count, int32_t first_group) {
    for (int32_t g = first_group; g < groups_; ++g) {
      TileGroup& group = targets_.groups[g];
      const int32_t size = group.end;
      group.begin = group.end = shares_;
      shares_ += size;
    }
    for (int64_t i = 0; i < count; ++i) {
      const PointOwners& owners = p_.owners[order[i]];
      for (int k = 0; k < owners.count; ++k) {
        if (owners.share[k] == 0.0f) continue;
        TileGroup& group = targets_.groups[slot_[owners.group[k]]];
        targets_.shares[group.end++] = {.point = static_cast<int32_t>(i), .share = owners.share[k]};
      }
    }
    for (int32_t g = first_group; g < groups_; ++g) slot_[targets_.groups[g].group] = -1;
  }
};

template <class Id>
void order_map_points(const PointTargetsParams& p, PointTargets& targets, const int32_t* by_row, int32_t* order) {
  const auto* map = static_cast<const Id*>(p.pixels);
  int32_t* group = order + targets.count;
  int32_t* begin = group + targets.count;
  PointTaps taps[kPointTile];
  for (int64_t first = 0; first < targets.count; first += kPointTile) {  // row by row, so that the map is read in order
    const int64_t n = std::min(kPointTile, targets.count - first);
    for (int64_t k = 0; k < n; ++k) {  // all pixels of the tile are on their way before the first is needed
      const float* at = p.points + 2 * static_cast<int64_t>(by_row[first + k]);
      taps[k] = target_taps(p, at[0], at[1]);
      __builtin_prefetch(map + taps[k].index[0]);
      __builtin_prefetch(map + taps[k].index[2]);
    }
    for (int64_t k = 0; k < n; ++k) {
      const int64_t i = by_row[first + k];
      const PointOwners& owners = p.owners[i] = owners_of(p, map, taps[k]);
      int most = 0;
      for (int at = 1; at < owners.count; ++at) most = owners.share[at] > owners.share[most] ? at : most;
      group[i] = owners.group[most];
    }
  }
  sort_points(group, p.num_segments + 1, by_row, targets.count, begin, order);
  TileLister(p, targets, begin).list(order);
}

void sample_masks(const PointTargetsParams& p, PointTargets& targets, const int32_t* order) {
  const auto* masks = static_cast<const uint8_t*>(p.pixels);
  const int64_t plane = p.target_height * p.target_width;
  std::fill_n(targets.inside, targets.tiles() * p.num_segments * kPointTile, 0.0f);
  std::fill_n(targets.area, p.num_segments, 0.0);
  for (int64_t i = 0; i < targets.count; ++i) {
    const float* at = p.points + 2 * static_cast<int64_t>(order[i]);
    const PointTaps taps = target_taps(p, at[0], at[1]);
    float* inside = targets.inside + (i / kPointTile) * p.num_segments * kPointTile + i % kPointTile;
    for (int64_t t = 0; t < p.num_segments; ++t) {
      float share = 0.0f;
      for (int tap = 0; tap < 4; ++tap) share += masks[t * plane + taps.index[tap]] != 0 ? taps.weight[tap] : 0.0f;
      inside[t * kPointTile] = std::min(share, kWhole);
      targets.area[t] += inside[t * kPointTile];
    }
  }
}

}  // namespace

void order_points(const PointTargetsParams& params, PointTargets& targets) {
  const int64_t count = targets.count;
  int32_t* row = params.scratch;
  int32_t* by_row = row + count;
  int32_t* begin = by_row + count;
  for (int64_t i = 0; i < count; ++i) row[i] = prediction_row(params, params.points[2 * i + 1]);
  sort_points(row, params.height, nullptr, count, begin, by_row);
  int32_t* order = by_row;
  if (params.from_masks) {
    sample_masks(params, targets, by_row);
  } else {
    order = begin;  // the counts by row are not needed any more
    params.wide ? order_map_points<int32_t>(params, targets, by_row, order)
                : order_map_points<int16_t>(params, targets, by_row, order);
  }
  for (int64_t i = 0; i < count; ++i)
    write_prediction_taps(params, order[i], targets.tap + 4 * i, targets.tap_weight + 4 * i);
  for (int64_t i = count; i < targets.tiles() * kPointTile; ++i) {
    std::fill_n(targets.tap + 4 * i, 4, static_cast<int32_t>(params.height * params.width));
    std::fill_n(targets.tap_weight + 4 * i, 4, 0.0f);
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
