// Bilinear resizing with align_corners=False: the two samples of each output, and the outputs of each input sample.
//
// Positions are exact integers over 2 * out_size. A weight is then one rounded division, whatever the sizes.
#pragma once

#include <cstdint>
#include <vector>

#include "common/cpu_dispatch.h"

namespace maskformer_ext {

// out = (1 - weight) * in[lower] + weight * in[upper], clamped at both ends as ATen does.
struct ResizeTap {
  int64_t lower;
  int64_t upper;
  float weight;
};

// The outputs grouped by the input sample that they are nearest to.
//
// A cell is one input sample. All cells have the same number of slots, and slot p of cell i is output start[i] + p.
// Slots before slots_before lie between samples i - 1 and i, the others between i and i + 1. Loops over cells therefore
// read and write whole vectors, forward and transposed.
struct ResizeCells {
  static constexpr int64_t kCellMultiple = 16;  // the widest vector

  int64_t in_size;
  int64_t out_size;
  int64_t cells;         // in_size rounded up to kCellMultiple
  int64_t slots_before;  // slots between samples i - 1 and i
  int64_t slots;
  int64_t stride;                   // start[i] = stride * i and every slot of a sample exists; 0 where this is not so
  std::vector<int64_t> start;       // (cells,), possibly negative
  std::vector<int64_t> begin, end;  // (cells,) the outputs that exist: begin <= start + p < end
  std::vector<float> lower_weight;  // (slots, cells) of sample i - 1 or i
  std::vector<float> upper_weight;  // (slots, cells) of sample i or i + 1. Samples beyond the ends repeat the end

  // Whether the outputs are the samples. The weights of neighbours are 0 then. 0 times an infinite neighbour would be
  // NaN.
  bool unchanged() const { return in_size == out_size; }
};

namespace MASKFORMER_EXT_VARIANT {

constexpr ResizeTap resize_tap(int64_t out, int64_t in_size, int64_t out_size) {
  // Half-pixel centres: the source position is ((out + 1/2) * in_size / out_size) - 1/2.
  const int64_t position = (2 * out + 1) * in_size - out_size;  // in units of 1 / (2 * out_size)
  if (position <= 0) return {0, in_size > 1 ? 1 : 0, 0.0f};
  const int64_t lower = position / (2 * out_size);
  if (lower >= in_size - 1) return {in_size - 1, in_size - 1, 0.0f};
  const int64_t rest = position - 2 * out_size * lower;
  return {lower, lower + 1, static_cast<float>(static_cast<double>(rest) / static_cast<double>(2 * out_size))};
}

inline ResizeCells resize_cells(int64_t in_size, int64_t out_size) {
  ResizeCells cells = {};
  cells.in_size = in_size;
  cells.out_size = out_size;
  cells.cells = (in_size + ResizeCells::kCellMultiple - 1) / ResizeCells::kCellMultiple * ResizeCells::kCellMultiple;
  // Output x is nearest to sample i where i - 1/2 <= position < i + 1/2. It lies before the sample where position < i.
  // Both are thresholds (2 x + 1) * in_size >= m * out_size. The first such x is a rounded division.
  const auto first_at = [&](int64_t m) {
    const int64_t x = (m * out_size + in_size - 1) / in_size;  // smallest with x * in_size >= m * out_size
    return x / 2;                                              // smallest with 2 x + 1 >= that
  };
  std::vector<int64_t> middle(cells.cells);
  cells.begin.resize(cells.cells);
  cells.end.resize(cells.cells);
  int64_t slots_after = 0;
  for (int64_t i = 0; i < cells.cells; ++i) {
    const bool exists = i < in_size;
    cells.begin[i] = exists ? first_at(2 * i) : out_size;
    middle[i] = exists ? first_at(2 * i + 1) : out_size;
    cells.end[i] = exists ? first_at(2 * i + 2) : out_size;
    if (!exists) continue;
    if (middle[i] - cells.begin[i] > cells.slots_before) cells.slots_before = middle[i] - cells.begin[i];
    if (cells.end[i] - middle[i] > slots_after) slots_after = cells.end[i] - middle[i];
  }
  cells.slots = cells.slots_before + slots_after;
  cells.stride = out_size % in_size == 0 ? out_size / in_size : 0;
  cells.start.resize(cells.cells);
  cells.lower_weight.assign(cells.slots * cells.cells, 0.0f);
  cells.upper_weight.assign(cells.slots * cells.cells, 0.0f);
  for (int64_t i = 0; i < cells.cells; ++i) {
    cells.start[i] = i < in_size ? middle[i] - cells.slots_before : cells.stride > 0 ? cells.stride * i : out_size;
    for (int64_t p = 0; p < cells.slots; ++p) {
      const int64_t x = cells.start[i] + p;
      if (x < cells.begin[i] || x >= cells.end[i]) continue;
      const int64_t lower = p < cells.slots_before ? i - 1 : i;
      const int64_t rest = (2 * x + 1) * in_size - out_size - 2 * out_size * lower;
      const double weight = static_cast<double>(rest) / static_cast<double>(2 * out_size);
      cells.upper_weight[p * cells.cells + i] = static_cast<float>(weight);
      cells.lower_weight[p * cells.cells + i] = static_cast<float>(1.0 - weight);
    }
  }
  return cells;
}

}  // namespace MASKFORMER_EXT_VARIANT
}  // namespace maskformer_ext
