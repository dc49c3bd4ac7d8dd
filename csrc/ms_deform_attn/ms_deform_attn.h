// Multi-scale deformable attention: the contract of the CPU kernels, torch-free.
//
// A unit is an image and a head. Its values are packed into a panel (panel.h), from which all queries read.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/dtype.h"

namespace maskformer_ext {

struct MsDeformAttnParams {
  static constexpr int64_t kQueries = 16;  // queries whose points are placed together

  const void* value;     // (B, S, H, D), channels contiguous
  DType value_dtype;     // of out, grad and grad_value too
  int64_t image_stride;  // in elements of value
  int64_t cell_stride;
  int64_t head_stride;

  const int64_t* sizes;   // (levels, 2) height and width
  const int64_t* points;  // (levels,) sampling points of each level
  const void* locations;  // (B, Q, H, N, 2) contiguous
  DType locations_dtype;  // of grad_locations too
  const void* weights;    // (B, Q, H, N) contiguous
  DType weights_dtype;    // of grad_weights too
  bool discrete;          // the nearest cell instead of an interpolation
  void* out;              // (B, Q, H * D) contiguous
  const void* grad;       // (B, Q, H * D) contiguous: dL/dout
  void* grad_value;       // (B, S, H, D) contiguous
  void* grad_locations;   // as locations
  void* grad_weights;     // as weights

  int64_t images;        // B
  int64_t cells;         // S
  int64_t heads;         // H
  int64_t channels;      // D
  int64_t queries;       // Q
  int64_t levels;        // L
  int64_t total_points;  // N

  int64_t units() const { return images * heads; }
  int64_t blocks() const { return (queries + kQueries - 1) / kQueries; }
};

// Where the cells of the levels lie in a panel. Around each level there are cells that stay 0, so that a point at the
// border reads four taps like any other:
//
//     gap | level 0: height rows of width cells and one border cell | gap | level 1 ... | gap
//
// The border cell at the end of a row is also the one before the next row. A gap holds a row of border cells of the
// level before it and of the one after it. A point outside of its map reads the first gap.
struct PanelLayout {
  explicit PanelLayout(const MsDeformAttnParams& p) {
    for (int64_t level = 0; level < p.levels; ++level) widest = std::max(widest, p.sizes[2 * level + 1]);
  }

  int64_t gap() const { return widest + 3; }

  // Calls body(level, height, width, first, first_cell): the place of the level's first cell in a panel and in value.
  template <class Body>
  void for_levels(const MsDeformAttnParams& p, Body&& body) const {
    int64_t first = gap(), first_cell = 0;
    for (int64_t level = 0; level < p.levels; ++level) {
      const int64_t height = p.sizes[2 * level], width = p.sizes[2 * level + 1];
      body(level, height, width, first, first_cell);
      first += height * (width + 1) + gap();
      first_cell += height * width;
    }
  }

  int64_t cells(const MsDeformAttnParams& p) const {
    int64_t end = gap();
    for (int64_t level = 0; level < p.levels; ++level) end += p.sizes[2 * level] * (p.sizes[2 * level + 1] + 1) + gap();
    return end;
  }

  int64_t widest = 0;
};

// Floats per vector of the kernels in use.
inline int64_t panel_lanes() { return int64_t{4} << static_cast<int>(cpu_level()); }

// Floats per cell of a panel: the channels, rounded up to whole vectors.
inline int64_t panel_channels(const MsDeformAttnParams& p) {
  return (p.channels + panel_lanes() - 1) / panel_lanes() * panel_lanes();
}

// A part of backward that writes what no other part writes.
struct MsDeformAttnTask {
  const float* panel;  // the unit's values; null: no gradient of locations and weights
  float* grad_panel;   // zeros, to which the gradient of the values is added; null: none
  int64_t unit;
  int64_t first_block, last_block;      // blocks of queries
  int64_t first_level, last_level;      // with a panel of values all of them
  int64_t first_channel, last_channel;  // the same; a cell of grad_panel has these, rounded up to whole vectors
};

// Copies the values of levels [first_level, last_level) of a unit to its panel, which holds zeros.
MASKFORMER_EXT_CPU_KERNEL(ms_deform_attn_pack, const MsDeformAttnParams& params, float* panel, int64_t unit,
                          int64_t first_level, int64_t last_level);

// Writes the outputs of blocks [first, last) of a unit.
MASKFORMER_EXT_CPU_KERNEL(ms_deform_attn_fwd, const MsDeformAttnParams& params, const float* panel, int64_t unit,
                          int64_t first, int64_t last);

// Writes the gradients of locations and weights of a task, and adds those of values to its panel.
MASKFORMER_EXT_CPU_KERNEL(ms_deform_attn_bwd, const MsDeformAttnParams& params, const MsDeformAttnTask& task);

// Copies a task's panel of gradients to grad_value.
MASKFORMER_EXT_CPU_KERNEL(ms_deform_attn_unpack, const MsDeformAttnParams& params, const MsDeformAttnTask& task);

}  // namespace maskformer_ext
