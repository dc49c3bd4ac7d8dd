// CUDA kernels of torch.ops.maskformer_ext.matching_cost_from_embeddings: guard, workspace, launches.
//
// The logits of some layers and images are made, reduced while they are in the second-level cache, and overwritten by
// the next. The kernels are those of mask_dot and matching_cost.
#include <algorithm>

#include "common/cuda_cache.h"
#include "mask_dot/call_cuda.h"
#include "matching_cost/call_cuda.h"
#include "torch/cuda_stream.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "matching_cost_from_embeddings";

Tensor matching_cost_from_embeddings_on_gpu(const Tensor& class_logits, const Tensor& mask_embed,
                                            const Tensor& mask_features, const Tensor& pixels, const Tensor& labels,
                                            const Tensor& num_segments, const std::optional<Tensor>& void_pixels,
                                            double class_weight, double focal_weight, double dice_weight, double alpha,
                                            double gamma, bool ignore_void, bool allow_tf32) {
  const CudaScope cuda(class_logits);
  DotOperands operands(op, mask_embed, mask_features, allow_tf32);
  const MaskDotCudaParams& all = operands.params;
  MatchingCostCall call(op, class_logits, {pixels, labels, num_segments, void_pixels, ignore_void},
                        {class_weight, focal_weight, dice_weight, alpha, gamma}, mask_features.size(2),
                        mask_features.size(3));
  STD_TORCH_CHECK(class_logits.dim() == mask_embed.dim() && call.params.images == all.images &&
                      call.params.rows == all.layers * all.images * all.queries,
                  op, ": class_logits must begin as mask_embed, got ", shape_string(class_logits), " and ",
                  shape_string(mask_embed));
  if (call.cost.numel() == 0) return call.cost;

  const int64_t image_logits = std::max<int64_t>(1, all.queries * all.pixels);  // of one layer
  const int64_t layers = even_chunk(all.layers, kCachedFloats / image_logits);  // a small last chunk fills no GPU
  const int64_t images = even_chunk(all.images, kCachedFloats / (layers * image_logits));
  Tensor logits = torch::stable::new_empty(mask_embed, {layers * images * image_logits}, ScalarType::Float);
  const int64_t size = dtype_size(all.dtype);
  matching_cost_targets_cuda(call.params, cuda.stream);
  for (int64_t image = 0; image < all.images; image += images) {
    for (int64_t layer = 0; layer < all.layers; layer += layers) {
      MaskDotCudaParams dot = all;
      dot.layers = std::min(layers, all.layers - layer);
      dot.images = std::min(images, all.images - image);
      const int64_t row = layer * all.images + image;
      dot.embed = static_cast<const char*>(all.embed) + row * all.queries * all.channels * size;
      dot.features = static_cast<const char*>(all.features) + image * all.image_stride * size;
      dot.activation = MaskDotActivation::none;
      dot.out = logits.mutable_data_ptr();
      dot.out_dtype = DType::float32;
      mask_dot_cuda(dot, cuda.stream);
      MatchingCostCudaParams cost = call.params;
      cost.mask_logits = dot.out;
      cost.mask_dtype = DType::float32;
      cost.rows = dot.layers * dot.images * all.queries;
      cost.chunk_images = dot.images;
      cost.first_layer = layer;
      cost.first_image = image;
      matching_cost_rows_cuda(cost, cuda.stream);
    }
  }
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return call.cost;
}

MASKFORMER_EXT_CUDA_IMPL(library) {
  library.impl("matching_cost_from_embeddings", TORCH_BOX(&matching_cost_from_embeddings_on_gpu));
}

}  // namespace
}  // namespace maskformer_ext
