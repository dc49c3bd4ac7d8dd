// A call of ms_deform_attn, shared by its CPU and CUDA bindings: checks, and tensors kept alive.
#pragma once

#include <numeric>
#include <vector>

#include "ms_deform_attn/ms_deform_attn.h"
#include "torch/checks.h"

namespace maskformer_ext {

// The tensors that the parameters point into, kept alive beside them.
struct MsDeformAttnCall {
  MsDeformAttnCall(const Tensor& value_in, const std::vector<int64_t>& sizes_in, const Tensor& locations_in,
                   const Tensor& weights_in, const std::vector<int64_t>& points_in, bool discrete)
      : value(with_contiguous_rows(value_in)),
        locations(torch::stable::contiguous(locations_in)),
        weights(torch::stable::contiguous(weights_in)),
        sizes(sizes_in),
        points(points_in) {
    check_dim(value, 4, op, "value");
    check_dim(locations, 5, op, "sampling_locations");
    params.images = value.size(0);
    params.cells = value.size(1);
    params.heads = value.size(2);
    params.channels = value.size(3);
    params.queries = locations.size(1);
    params.levels = static_cast<int64_t>(points.size());
    params.total_points = std::accumulate(points.begin(), points.end(), int64_t{0});
    check_levels();
    STD_TORCH_CHECK(locations.size(0) == params.images && locations.size(2) == params.heads &&
                        locations.size(3) == params.total_points && locations.size(4) == 2,
                    op, ": sampling_locations must be (B, Q, H, N, 2) with B = ", params.images, ", H = ", params.heads,
                    " and N = ", params.total_points, ", got ", shape_string(locations));
    bool fits = weights.dim() == 4;
    for (int64_t i = 0; fits && i < 4; ++i) fits = weights.size(i) == locations.size(i);
    STD_TORCH_CHECK(fits, op, ": attention_weights must have the shape of sampling_locations without its last size, ",
                    "got ", shape_string(weights));
    params.value = value.const_data_ptr();
    params.value_dtype = floating_dtype(value, op, "value");
    params.image_stride = value.stride(0);
    params.cell_stride = value.stride(1);
    params.head_stride = value.stride(2);
    params.sizes = sizes.data();
    params.points = points.data();
    params.locations = locations.const_data_ptr();
    params.locations_dtype = floating_dtype(locations, op, "sampling_locations");
    params.weights = weights.const_data_ptr();
    params.weights_dtype = floating_dtype(weights, op, "attention_weights");
    params.discrete = discrete;
  }

  MsDeformAttnCall(const MsDeformAttnCall&) = delete;
  MsDeformAttnCall& operator=(const MsDeformAttnCall&) = delete;

  Tensor new_out() {
    Tensor out = torch::stable::new_empty(value, {params.images, params.queries, params.heads * params.channels});
    params.out = out.mutable_data_ptr();
    return out;
  }

  // For backward: takes the gradient of the output, and allocates those that are asked for.
  void with_grad(const Tensor& grad_in, bool to_value, bool to_points) {
    grad = torch::stable::contiguous(torch::stable::to(grad_in, value.scalar_type()));
    STD_TORCH_CHECK(grad.dim() == 3 && grad.size(0) == params.images && grad.size(1) == params.queries &&
                        grad.size(2) == params.heads * params.channels,
                    op, ": grad must be (B, Q, H * D), got ", shape_string(grad));
    params.grad = grad.const_data_ptr();
    grad_value = new_like(value, to_value);
    grad_locations = new_like(locations, to_points);
    grad_weights = new_like(weights, to_points);
    params.grad_value = grad_value.mutable_data_ptr();
    params.grad_locations = grad_locations.mutable_data_ptr();
    params.grad_weights = grad_weights.mutable_data_ptr();
  }

  void zero_gradients() {
    for (Tensor* gradient : {&grad_value, &grad_locations, &grad_weights}) torch::stable::zero_(*gradient);
  }

  // Whether there is nothing to compute, so that every gradient is 0.
  bool empty() const { return params.units() == 0 || params.channels == 0 || params.queries == 0; }

  // Whether the same holds of the backward, or nobody asks for a gradient.
  bool empty_backward(bool to_value, bool to_points) const { return empty() || !(to_value || to_points); }

  static constexpr const char* op = "ms_deform_attn";
  Tensor value, locations, weights, grad, grad_value, grad_locations, grad_weights;
  std::vector<int64_t> sizes, points;
  MsDeformAttnParams params = {};

 private:
  static Tensor new_like(const Tensor& tensor, bool wanted) {
    return wanted ? torch::stable::new_empty(tensor, tensor.sizes()) : torch::stable::new_empty(tensor, {0});
  }

  void check_levels() const {
    constexpr int64_t most = int64_t{1} << 28;  // cells are counted in 32 bits
    STD_TORCH_CHECK(params.cells < most, op, ": value must have fewer than ", most, " cells, got ", params.cells);
    STD_TORCH_CHECK(sizes.size() == 2 * points.size() && !points.empty(), op, ": spatial_shapes must be ",
                    points.size(), " pairs of a height and a width, got ", sizes.size(), " numbers");
    int64_t cells = 0;
    for (size_t level = 0; level < points.size(); ++level) {
      const int64_t height = sizes[2 * level], width = sizes[2 * level + 1];
      STD_TORCH_CHECK(height > 0 && width > 0 && height < most && width < most && points[level] >= 0, op,
                      ": spatial_shapes must be positive and points_per_level not negative");
      cells = std::min(cells + height * width, most);
    }
    STD_TORCH_CHECK(cells == params.cells, op, ": value must have S = ", cells, " cells, got ", shape_string(value));
    STD_TORCH_CHECK(PanelLayout(view()).cells(view()) < most, op, ": value must have fewer than ", most,
                    " cells with those around each level");
  }

  // The sizes alone, while the parameters are being filled in.
  MsDeformAttnParams view() const {
    MsDeformAttnParams sizes_only = params;
    sizes_only.sizes = sizes.data();
    return sizes_only;
  }
};

}  // namespace maskformer_ext
