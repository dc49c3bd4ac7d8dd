// CUDA kernel of torch.ops.maskformer_ext.matched_mask_loss: guard, checks, launch; the kernels are those of mask_loss.
//
// Indices and ids live on the device: what is out of range is no pair, or void, and nothing is read for it.
#include <optional>

#include "mask_loss/run_cuda.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "matched_mask_loss";

MaskLossOutputs matched_mask_loss_on_gpu(const Tensor& mask_logits, const Tensor& targets_in,
                                         const Tensor& num_segments_in, const std::optional<Tensor>& void_in,
                                         const Tensor& image_index_in, const Tensor& segment_index_in, double alpha,
                                         double gamma, bool ignore_void, bool with_grad) {
  const CudaScope cuda(mask_logits);
  check_dim(mask_logits, 3, op, "mask_logits");
  const bool is_map = targets_in.dim() == 3;
  if (!is_map) check_dim(targets_in, 4, op, "targets");
  const Tensor logits = with_contiguous_rows(mask_logits);
  const Tensor targets = with_contiguous_rows(targets_in);
  const int64_t masks = logits.size(0), images = targets.size(0);
  const Tensor image_index = contiguous_indices(image_index_in, masks, op, "image_index");
  const Tensor segment_index = contiguous_indices(segment_index_in, masks, op, "segment_index");
  const Tensor num_segments = contiguous_indices(num_segments_in, images, op, "targets.num_segments");

  MaskLossCudaParams params = mask_loss_cuda_params(op, logits, targets, alpha, gamma);
  params.is_map = is_map;
  params.images = images;
  params.segments = is_map ? 0 : targets.size(1);
  params.target_image_stride = targets.stride(0);
  params.target_plane_stride = is_map ? 0 : targets.stride(1);
  params.image_index = image_index.const_data_ptr<int64_t>();
  params.segment_index = segment_index.const_data_ptr<int64_t>();
  params.num_segments = num_segments.const_data_ptr<int64_t>();
  std::optional<Tensor> void_pixels;
  if (is_map) {
    params.wide = targets.scalar_type() != ScalarType::Short;
    if (params.wide) check_dtype(targets, ScalarType::Int, op, "targets.segment_map");
    params.ignore_void = ignore_void;
  } else {
    params.target_dtype = kernel_dtype(targets, op, "targets.masks");
    if (ignore_void) {
      STD_TORCH_CHECK(void_in.has_value(), op, ": targets must have void pixels for ignore_void");
      check_dtype(*void_in, ScalarType::Bool, op, "targets.void");
      void_pixels = torch::stable::contiguous(*void_in);
      STD_TORCH_CHECK(void_pixels->dim() == 3 && void_pixels->size(0) == images &&
                          void_pixels->size(1) == params.target_height && void_pixels->size(2) == params.target_width,
                      op, ": targets.void must be (B, H, W) as the masks, got ", shape_string(*void_pixels));
      params.void_pixels = static_cast<const uint8_t*>(void_pixels->const_data_ptr());
    }
  }
  return run_mask_loss_cuda(params, logits, with_grad, cuda);
}

MASKFORMER_EXT_CUDA_IMPL(library) { library.impl("matched_mask_loss", TORCH_BOX(&matched_mask_loss_on_gpu)); }

}  // namespace
}  // namespace maskformer_ext
