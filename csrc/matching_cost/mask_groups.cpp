// CPU kernels that split an image's pixels into groups, one per set of masks. Overlapping masks then cost as little as
// a map.
#include <algorithm>
#include <cstring>

#include "matching_cost/matching_cost.h"
#include "matching_cost/nearest.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

bool any(const uint8_t* values, int64_t n) {
  uint8_t found = 0;
#pragma omp simd reduction(| : found)
  for (int64_t i = 0; i < n; ++i) found |= values[i];
  return found != 0;
}

}  // namespace

// Starts from one group, and lets each mask split the groups that it touches. A group left without pixels gives back
// its number.
void group_pixels_by_masks(const MaskGroupParams& p, MaskGroups& groups) {
  int32_t* row = p.scratch;
  int32_t* column = row + p.height;
  int32_t* split = column + p.width;  // the group that takes over a group's pixels inside the mask
  int32_t* size = split + p.max_groups;
  int32_t* unused = size + p.max_groups;
  nearest_positions(p.target_height, p.height, row);
  nearest_positions(p.target_width, p.width, column);

  int64_t count = 1, num_unused = 0;
  size[0] = 0;
  for (int64_t y = 0; y < p.height; ++y) {
    const uint8_t* excluded = p.excluded == nullptr ? nullptr : p.excluded + row[y] * p.target_width;
    for (int64_t x = 0; x < p.width; ++x) {
      const bool left_out = excluded != nullptr && excluded[column[x]] != 0;
      groups.group[y * p.width + x] = left_out ? -1 : 0;
      size[0] += !left_out;
    }
  }
  std::fill(groups.member, groups.member + p.num_segments, uint8_t{0});  // null where there are no segments

  groups.num_groups = -1;
  const bool pixels = p.width > 0;  // without any, the targets may have none either
  for (int64_t t = 0; t < p.num_segments && pixels; ++t) {
    std::fill(split, split + count, -1);
    for (int64_t y = 0; y < p.height; ++y) {
      const uint8_t* mask = p.masks + (t * p.target_height + row[y]) * p.target_width;
      if (!any(mask, p.target_width)) continue;
      int32_t* group = groups.group + y * p.width;
      for (int64_t x = 0; x < p.width; ++x) {
        const int32_t old = group[x];
        if (mask[column[x]] == 0 || old < 0) continue;
        int32_t next = split[old];
        if (next < 0) {
          if (num_unused == 0 && count == p.max_groups) return;
          next = num_unused > 0 ? unused[--num_unused] : static_cast<int32_t>(count++);
          split[old] = next;
          split[next] = -1;
          size[next] = 0;
          uint8_t* member = groups.member + next * p.num_segments;
          std::memcpy(member, groups.member + old * p.num_segments, static_cast<size_t>(p.num_segments));
          member[t] = 1;
        }
        group[x] = next;
        ++size[next];
        if (--size[old] == 0) unused[num_unused++] = old;
      }
    }
  }
  groups.num_groups = count;
}

void order_masks(const MaskGroupParams& p, const PixelOrder& order, int64_t stride, uint8_t* sorted_masks,
                 int64_t* area) {
  int32_t* row = p.scratch;
  int32_t* column = row + p.height;
  nearest_positions(p.target_height, p.height, row);
  nearest_positions(p.target_width, p.width, column);
  for (int64_t t = 0; t < p.num_segments; ++t) {
    const uint8_t* mask = p.masks + t * p.target_height * p.target_width;
    uint8_t* sorted = sorted_masks + t * stride;
    std::memset(sorted, 0, static_cast<size_t>(order.begin[order.num_groups]));
    area[t] = 0;
    for (int64_t r = 0; r < order.num_runs; ++r) {
      int64_t y = order.source[r] / p.width, x = order.source[r] % p.width;
      for (int32_t i = 0; i < order.length[r]; ++i) {
        const uint8_t inside = mask[row[y] * p.target_width + column[x]] != 0;
        sorted[order.destination[r] + i] = inside;
        area[t] += inside;
        if (++x == p.width) {
          x = 0;
          ++y;
        }
      }
    }
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
