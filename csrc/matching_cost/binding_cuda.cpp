// CUDA kernels of torch.ops.maskformer_ext.matching_cost: guard, checks, workspace, launch.
#include <optional>
#include <vector>

#include "common/checks.h"
#include "common/cuda_stream.h"
#include "matching_cost/matching_cost_cuda.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "matching_cost";
constexpr int64_t most_blocks = 2048;  // more than any GPU runs at once; each loops over queries

Tensor matching_cost_on_gpu(const Tensor& class_logits_in, const Tensor& mask_logits_in, const Tensor& pixels_in,
                            const Tensor& labels_in, const Tensor& num_segments_in,
                            const std::optional<Tensor>& void_in, double class_weight, double focal_weight,
                            double dice_weight, double alpha, double gamma, bool ignore_void) {
  const CudaScope cuda(class_logits_in);
  const Tensor class_logits = torch::stable::contiguous(class_logits_in);
  const Tensor mask_logits = torch::stable::contiguous(mask_logits_in);
  const Tensor targets = torch::stable::contiguous(pixels_in);
  const Tensor labels = torch::stable::contiguous(labels_in);
  const Tensor num_segments = torch::stable::contiguous(num_segments_in);
  std::optional<Tensor> void_map;
  if (void_in.has_value()) void_map = torch::stable::contiguous(*void_in);
  const int64_t dim = mask_logits.dim();
  STD_TORCH_CHECK(dim >= 4 && class_logits.dim() == dim - 1, op, ": mask_logits must be (..., B, Q, h, w), got ",
                  shape_string(mask_logits));
  check_dim(labels, 2, op, "labels");
  check_dtype(labels, ScalarType::Long, op, "labels");
  check_dim(num_segments, 1, op, "num_segments");
  check_dtype(num_segments, ScalarType::Long, op, "num_segments");
  const bool from_masks = targets.dim() == 4;
  const ScalarType dtype = targets.scalar_type();
  STD_TORCH_CHECK(from_masks ? dtype == ScalarType::Bool || dtype == ScalarType::Byte
                             : dtype == ScalarType::Int || dtype == ScalarType::Short,
                  op, ": a segment_map must be int16 or int32, masks bool or uint8, got ",
                  torch::headeronly::toString(dtype));

  MatchingCostCudaParams params = {};
  params.class_logits = class_logits.const_data_ptr();
  params.class_dtype = floating_dtype(class_logits, op, "class_logits");
  params.mask_logits = mask_logits.const_data_ptr();
  params.mask_dtype = floating_dtype(mask_logits, op, "mask_logits");
  params.labels = labels.const_data_ptr<int64_t>();
  params.num_segments = num_segments.const_data_ptr<int64_t>();
  params.images = mask_logits.size(dim - 4);
  params.queries = mask_logits.size(dim - 3);
  params.classes = class_logits.size(dim - 2) - 1;
  params.segments = labels.size(1);
  params.rows = class_logits.numel() / (params.classes + 1);
  const int64_t height = mask_logits.size(dim - 2), width = mask_logits.size(dim - 1);
  const int64_t target_height = targets.size(targets.dim() - 2), target_width = targets.size(targets.dim() - 1);
  STD_TORCH_CHECK(height * width < INT32_MAX / 2 && target_height < INT32_MAX && target_width < INT32_MAX, op,
                  ": mask_logits must have fewer than 2^30 pixels, got ", shape_string(mask_logits));
  STD_TORCH_CHECK(targets.size(0) == params.images && labels.size(0) == params.images &&
                      num_segments.size(0) == params.images && (!from_masks || targets.size(1) == params.segments),
                  op, ": targets must be of B = ", params.images, " images and T = ", params.segments,
                  " segments, got pixels ", shape_string(targets));
  STD_TORCH_CHECK(target_height * target_width > 0 || height * width == 0, op, ": targets must have a pixel, got ",
                  shape_string(targets));
  params.height = static_cast<int>(height);
  params.width = static_cast<int>(width);
  params.target_height = static_cast<int>(target_height);
  params.target_width = static_cast<int>(target_width);
  params.ignore_void = ignore_void;
  params.class_weight = static_cast<float>(class_weight);
  params.focal_weight = static_cast<float>(focal_weight);
  params.dice_weight = static_cast<float>(dice_weight);
  params.alpha = static_cast<float>(alpha);
  params.gamma = static_cast<float>(gamma);

  std::vector<int64_t> cost_shape(class_logits.sizes().begin(), class_logits.sizes().end());
  cost_shape.back() = params.segments;
  Tensor cost = torch::stable::new_empty(class_logits, cost_shape, ScalarType::Float);
  if (cost.numel() == 0) return cost;
  params.cost = cost.mutable_data_ptr<float>();

  const int64_t images = params.images, groups = params.segments + 1, num_pixels = params.pixels();
  params.max_items = static_cast<int>(groups + num_pixels / MatchingCostCudaParams::kItemPixels);
  params.words = static_cast<int>((num_pixels + 31) / 32);
  params.blocks = static_cast<int>(params.rows < most_blocks ? params.rows : most_blocks);
  const int64_t entries = from_masks ? params.segments : params.max_items;
  params.sums_stride = 3 * entries;
  Tensor sums = torch::stable::new_empty(class_logits, {params.blocks * params.sums_stride}, ScalarType::Double);
  params.sums = sums.mutable_data_ptr<double>();
  const int64_t map_words = from_masks ? 0 : images * (2 * num_pixels + 3 * params.max_items + 1);
  const int64_t mask_words = from_masks ? images * groups * params.words : 0;
  Tensor workspace =
      torch::stable::new_empty(class_logits, {images * groups + map_words + mask_words}, ScalarType::Int);
  int* words = workspace.mutable_data_ptr<int32_t>();
  params.group_area = words;
  if (from_masks) {
    params.masks = static_cast<const uint8_t*>(targets.const_data_ptr());
    if (ignore_void && void_map.has_value()) {
      params.void_map = static_cast<const uint8_t*>(void_map->const_data_ptr());
    }
    params.bits = reinterpret_cast<uint32_t*>(words + images * groups);
  } else {
    params.segment_map = targets.const_data_ptr();
    params.wide = dtype == ScalarType::Int;
    params.owner = words + images * groups;
    params.order = params.owner + images * num_pixels;
    params.item = params.order + images * num_pixels;
    params.num_items = params.item + images * 3 * params.max_items;
  }
  matching_cost_cuda(params, cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return cost;
}

MASKFORMER_EXT_CUDA_IMPL(library) { library.impl("matching_cost", TORCH_BOX(&matching_cost_on_gpu)); }

}  // namespace
}  // namespace maskformer_ext
