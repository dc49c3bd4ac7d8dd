// torch.ops.maskformer_ext.ms_deform_attn and its backward: schemas, allocation and threads, on the CPU.
#include <tuple>

#include "common/aligned.h"
#include "ms_deform_attn/call.h"

namespace maskformer_ext {
namespace {

using Floats = baseline::AlignedVector<float>;
using Params = MsDeformAttnParams;

int64_t panel_floats(const Params& p) { return PanelLayout(p).cells(p) * panel_channels(p); }

// Whether there are enough images and heads for all threads. If not, their queries, levels and channels are shared out.
// Every sum has the same order in both cases.
bool whole_units(const Params& p) { return p.units() >= 2 * int64_t{torch::stable::get_num_threads()}; }

// Calls body(unit, part) for all parts of all units.
template <class Body>
void for_parts(const Params& p, int64_t parts, int64_t grain, Body&& body) {
  torch::stable::parallel_for(0, p.units() * parts, grain, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) body(item / parts, item % parts);
  });
}

// The panels of all units.
Floats pack_all(const Params& p) {
  const int64_t size = panel_floats(p);
  Floats panels(p.units() * size);
  for_parts(p, p.levels, 1, [&](int64_t unit, int64_t level) {
    ms_deform_attn_pack(p, panels.data() + unit * size, unit, level, level + 1);
  });
  return panels;
}

constexpr int64_t kBlocks = 4;  // blocks of queries of an item

int64_t block_parts(const Params& p) { return (p.blocks() + kBlocks - 1) / kBlocks; }

Tensor ms_deform_attn_cpu(const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& locations,
                          const Tensor& weights, const std::vector<int64_t>& points_per_level, bool discrete) {
  MsDeformAttnCall call(value, spatial_shapes, locations, weights, points_per_level, discrete);
  const Params& p = call.params;
  Tensor out = call.new_out();
  if (call.empty()) return out;
  const int64_t size = panel_floats(p);
  if (whole_units(p)) {
    torch::stable::parallel_for(0, p.units(), 1, [&](int64_t begin, int64_t end) {
      Floats panel(size);
      for (int64_t unit = begin; unit < end; ++unit) {
        ms_deform_attn_pack(p, panel.data(), unit, 0, p.levels);
        ms_deform_attn_fwd(p, panel.data(), unit, 0, p.blocks());
      }
    });
    return out;
  }
  const Floats panels = pack_all(p);
  for_parts(p, block_parts(p), 1, [&](int64_t unit, int64_t part) {
    ms_deform_attn_fwd(p, panels.data() + unit * size, unit, part * kBlocks,
                       std::min((part + 1) * kBlocks, p.blocks()));
  });
  return out;
}

// All of a unit, without panels.
MsDeformAttnTask whole(const Params& p) {
  MsDeformAttnTask task = {};
  task.last_block = p.blocks();
  task.last_level = p.levels;
  task.last_channel = p.channels;
  return task;
}

// All three gradients in one sweep, a unit per thread.
void backward_by_unit(const Params& p, bool to_value, bool to_points) {
  const int64_t size = panel_floats(p);
  torch::stable::parallel_for(0, p.units(), 1, [&](int64_t begin, int64_t end) {
    Floats panel(to_points ? size : 0), grad_panel(to_value ? size : 0);
    MsDeformAttnTask task = whole(p);
    if (to_points) task.panel = panel.data();
    if (to_value) task.grad_panel = grad_panel.data();
    for (task.unit = begin; task.unit < end; ++task.unit) {
      if (to_points) ms_deform_attn_pack(p, panel.data(), task.unit, 0, p.levels);
      if (to_value && task.unit > begin) std::fill(grad_panel.begin(), grad_panel.end(), 0.0f);
      ms_deform_attn_bwd(p, task);
      if (to_value) ms_deform_attn_unpack(p, task);
    }
  });
}

// The gradients of locations and weights by queries, then those of values by levels and channels.
void backward_by_part(const Params& p, bool to_value, bool to_points) {
  if (to_points) {
    const int64_t size = panel_floats(p);
    const Floats panels = pack_all(p);
    for_parts(p, block_parts(p), 1, [&](int64_t unit, int64_t part) {
      MsDeformAttnTask task = whole(p);
      task.panel = panels.data() + unit * size;
      task.unit = unit;
      task.first_block = part * kBlocks;
      task.last_block = std::min((part + 1) * kBlocks, p.blocks());
      ms_deform_attn_bwd(p, task);
    });
  }
  if (to_value) {
    const int64_t width = panel_lanes(), slices = panel_channels(p) / width, cells = PanelLayout(p).cells(p);
    for_parts(p, p.levels * slices, 1, [&](int64_t unit, int64_t part) {
      Floats grad_panel(cells * width);
      MsDeformAttnTask task = whole(p);
      task.grad_panel = grad_panel.data();
      task.unit = unit;
      task.first_level = part / slices;
      task.last_level = task.first_level + 1;
      task.first_channel = part % slices * width;
      task.last_channel = std::min(task.first_channel + width, p.channels);
      ms_deform_attn_bwd(p, task);
      ms_deform_attn_unpack(p, task);
    });
  }
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward_cpu(const Tensor& grad, const Tensor& value,
                                                               const std::vector<int64_t>& spatial_shapes,
                                                               const Tensor& locations, const Tensor& weights,
                                                               const std::vector<int64_t>& points_per_level,
                                                               bool discrete, bool to_value, bool to_points) {
  MsDeformAttnCall call(value, spatial_shapes, locations, weights, points_per_level, discrete);
  call.with_grad(grad, to_value, to_points);
  if (call.empty_backward(to_value, to_points)) {
    call.zero_gradients();
  } else if (whole_units(call.params)) {
    backward_by_unit(call.params, to_value, to_points);
  } else {
    backward_by_part(call.params, to_value, to_points);
  }
  return {call.grad_value, call.grad_locations, call.grad_weights};
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def(
      "ms_deform_attn(Tensor value, SymInt[] spatial_shapes, Tensor sampling_locations, Tensor attention_weights, "
      "SymInt[] points_per_level, bool discrete) -> Tensor");
  library.def(
      "ms_deform_attn_backward(Tensor grad, Tensor value, SymInt[] spatial_shapes, Tensor sampling_locations, "
      "Tensor attention_weights, SymInt[] points_per_level, bool discrete, bool to_value, bool to_points) "
      "-> (Tensor grad_value, Tensor grad_locations, Tensor grad_weights)");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("ms_deform_attn", TORCH_BOX(&ms_deform_attn_cpu));
  library.impl("ms_deform_attn_backward", TORCH_BOX(&ms_deform_attn_backward_cpu));
}

}  // namespace
}  // namespace maskformer_ext
