// CUDA kernels of torch.ops.maskformer_ext.point_matching_cost_from_embeddings: guard, workspace, launches.
//
// The features of some layers and images are sampled at their points and multiplied while they are in the second-level
// cache. The logits of several such parts are then reduced together: a block takes a query, and a GPU wants many
// blocks. The kernels are those of mask_dot and point_matching_cost. Products are of float32.
#include "common/cuda_cache.h"
#include "mask_dot/call_cuda.h"
#include "point_matching_cost/call_cuda.h"
#include "torch/cuda_stream.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "point_matching_cost_from_embeddings";

Tensor point_matching_cost_from_embeddings_on_gpu(const Tensor& class_logits, const Tensor& mask_embed_in,
                                                  const Tensor& mask_features, const Tensor& pixels,
                                                  const Tensor& labels, const Tensor& num_segments,
                                                  const Tensor& points_in, double class_weight, double mask_weight,
                                                  double dice_weight, int64_t sampling, bool allow_tf32) {
  const CudaScope cuda(class_logits);
  check_dim(mask_features, 4, op, "mask_features");
  const Tensor points = torch::stable::contiguous(points_in);
  const Tensor mask_embed = torch::stable::contiguous(as_dtype(mask_embed_in, ScalarType::Float));
  const int64_t channels = mask_features.size(1), height = mask_features.size(2), width = mask_features.size(3);
  const int64_t dim = class_logits.dim();
  const int64_t queries = dim >= 3 ? class_logits.size(dim - 2) : 0;
  PointMatchingCostCall call(op, class_logits, {pixels, labels, num_segments, points, sampling}, class_weight,
                             mask_weight, dice_weight, height, width, queries);
  STD_TORCH_CHECK(mask_embed.dim() == dim && mask_embed.numel() == call.problems * queries * channels &&
                      mask_features.size(0) == call.params.images,
                  op, ": class_logits must begin as mask_embed, got ", shape_string(class_logits), " and ",
                  shape_string(mask_embed));
  if (call.cost.numel() == 0) return call.cost;
  const int64_t count = call.params.count;
  // Sampled features are larger than logits, so those of fewer problems are in the cache at once.
  const int64_t sampled_at_once =
      std::clamp<int64_t>(kCachedFloats / std::max<int64_t>(1, count * channels), 1, call.at_once);
  Tensor sampled = torch::stable::new_empty(mask_embed, {sampled_at_once * channels * count}, ScalarType::Float);
  Tensor logits = torch::stable::new_empty(mask_embed, {call.at_once * queries * count}, ScalarType::Float);
  const auto write_logits = [&](int64_t first, int64_t problems, float* to) {
    sample_features_cuda({.features = mask_features.const_data_ptr(),
                          .dtype = floating_dtype(mask_features, op, "mask_features"),
                          .image_stride = mask_features.stride(0),
                          .channel_stride = mask_features.stride(1),
                          .row_stride = mask_features.stride(2),
                          .column_stride = mask_features.stride(3),
                          .images = call.params.images,
                          .channels = channels,
                          .height = height,
                          .width = width,
                          .points = call.params.points,
                          .count = count,
                          .first_problem = first,
                          .problems = problems,
                          .out = sampled.mutable_data_ptr<float>()},
                         cuda.stream);
    mask_dot_cuda({.embed = mask_embed.const_data_ptr<float>() + first * queries * channels,
                   .features = sampled.const_data_ptr(),
                   .dtype = DType::float32,
                   .layers = 1,
                   .images = problems,
                   .queries = queries,
                   .channels = channels,
                   .pixels = count,
                   .layer_stride = problems * queries * channels,
                   .image_stride = channels * count,
                   .channel_stride = count,
                   .pixel_stride = 1,
                   .allow_tf32 = allow_tf32,
                   .activation = MaskDotActivation::none,
                   .out = to,
                   .out_dtype = DType::float32},
                  cuda.stream);
  };
  for (int64_t first = 0; first < call.problems; first += call.at_once) {
    const int64_t problems = std::min(call.at_once, call.problems - first);
    for (int64_t done = 0; done < problems; done += sampled_at_once) {
      write_logits(first + done, std::min(sampled_at_once, problems - done),
                   logits.mutable_data_ptr<float>() + done * queries * count);
    }
    PointMatchingCostCudaParams params = call.params;
    params.first_problem = first;
    params.problems = problems;
    params.logits = logits.const_data_ptr();
    params.logits_dtype = DType::float32;
    params.sampled = true;
    point_matching_cost_cuda(params, cuda.stream);
  }
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return call.cost;
}

MASKFORMER_EXT_CUDA_IMPL(library) {
  library.impl("point_matching_cost_from_embeddings", TORCH_BOX(&point_matching_cost_from_embeddings_on_gpu));
}

}  // namespace
}  // namespace maskformer_ext
