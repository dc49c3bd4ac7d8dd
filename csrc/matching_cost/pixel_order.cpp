// CPU kernel that reduces an image's segments to (h, w) and sorts the pixels by segment, once for all layers and
// queries.
#include <algorithm>

#include "matching_cost/matching_cost.h"
#include "matching_cost/nearest.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

// Lists the runs of equal group in raster order, where group(pixel) is the group of a target pixel. Returns how many
// runs there are.
template <class Group>
int64_t find_runs(const PixelOrderParams& p, const int32_t* row, const int32_t* column, int32_t* start,
                  int32_t* run_group, Group group) {
  int64_t runs = 0;
  int32_t previous = -2;
  for (int64_t y = 0; y < p.height; ++y) {
    for (int64_t x = 0; x < p.width; ++x) {
      const int32_t current = group(row[y] * p.target_width + column[x]);
      if (current != previous) {
        start[runs] = static_cast<int32_t>(y * p.width + x);
        run_group[runs++] = current;
        previous = current;
      }
    }
  }
  start[runs] = static_cast<int32_t>(p.height * p.width);
  return runs;
}

// Sorts runs by group and gives every group its places. Runs of group -1 are left out.
void sort_runs(const int32_t* start, const int32_t* run_group, int64_t runs, PixelOrder& order) {
  constexpr int64_t lanes = kMatchingCostLanes;
  std::fill(order.area, order.area + order.num_groups, 0);
  std::fill(order.begin, order.begin + order.num_groups + 1, 0);
  for (int64_t r = 0; r < runs; ++r) {
    if (run_group[r] < 0) continue;
    order.area[run_group[r]] += start[r + 1] - start[r];
    ++order.begin[run_group[r] + 1];
  }
  // begin[g] first counts runs. It is the index in the list of group g's first run and, while filling, of its next one.
  for (int64_t g = 0; g < order.num_groups; ++g) order.begin[g + 1] += order.begin[g];
  order.num_runs = order.begin[order.num_groups];
  for (int64_t r = 0; r < runs; ++r) {
    if (run_group[r] < 0) continue;
    const int64_t place = order.begin[run_group[r]]++;
    order.source[place] = start[r];
    order.length[place] = start[r + 1] - start[r];
  }

  int64_t position = 0, run = 0;
  order.counted = 0;
  for (int64_t g = 0; g < order.num_groups; ++g) {
    const int64_t last_run = order.begin[g];
    order.begin[g] = position;
    order.counted += order.area[g];
    for (; run < last_run; ++run) {
      order.destination[run] = static_cast<int32_t>(position);
      position += order.length[run];
    }
    const int64_t padded = (position + lanes - 1) / lanes * lanes;
    std::fill(order.weight + order.begin[g], order.weight + position, 1.0f);
    std::fill(order.weight + position, order.weight + padded, 0.0f);
    position = padded;
  }
  order.begin[order.num_groups] = position;
}

}  // namespace

void order_pixels(const PixelOrderParams& p, PixelOrder& order) {
  const int64_t pixels = p.height * p.width;
  int32_t* start = p.scratch;
  int32_t* run_group = start + pixels + 1;
  int32_t* row = run_group + pixels;
  int32_t* column = row + p.height;
  nearest_positions(p.target_height, p.height, row);
  nearest_positions(p.target_width, p.width, column);
  order.num_groups = p.num_segments + 1;
  const int32_t void_group = p.ignore_void ? -1 : static_cast<int32_t>(p.num_segments);
  const auto list = [&](const auto* segment_map) {
    return find_runs(p, row, column, start, run_group, [&](int64_t pixel) {
      const int32_t segment = segment_map[pixel];
      return segment < 0 ? void_group : segment;
    });
  };
  const int64_t runs =
      p.wide ? list(static_cast<const int32_t*>(p.segment_map)) : list(static_cast<const int16_t*>(p.segment_map));
  sort_runs(start, run_group, runs, order);
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
