// CUDA kernel of torch.ops.maskformer_ext.matched_mask_loss: guard, launch. The kernels are those of mask_loss.
//
// Indices and ids live on the device. An index out of range is no pair, and an id out of range is void. Nothing is read
// for them.
#include "mask_loss/call_cuda.h"
#include "matched_mask_loss/call.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "matched_mask_loss";

MaskLossOutputs matched_mask_loss_on_gpu(const Tensor& mask_logits, const Tensor& targets_in,
                                         const Tensor& num_segments_in, const std::optional<Tensor>& void_in,
                                         const Tensor& image_index_in, const Tensor& segment_index_in, double alpha,
                                         double gamma, bool ignore_void, bool with_grad) {
  const CudaScope cuda(mask_logits);
  const MatchedMaskLossCall call(
      op, {mask_logits, targets_in, num_segments_in, void_in, image_index_in, segment_index_in}, ignore_void);
  const Tensor& targets = call.targets;
  MaskLossCudaParams params = mask_loss_cuda_params(op, call.logits, targets, alpha, gamma);
  params.is_map = call.is_map;
  params.images = call.images();
  params.segments = call.is_map ? 0 : targets.size(1);
  params.target_image_stride = targets.stride(0);
  params.target_plane_stride = call.is_map ? 0 : targets.stride(1);
  params.image_index = call.image_index.const_data_ptr<int64_t>();
  params.segment_index = call.segment_index.const_data_ptr<int64_t>();
  params.num_segments = call.num_segments.const_data_ptr<int64_t>();
  if (call.is_map) {
    params.wide = !call.is_int16();
    params.ignore_void = ignore_void;
  } else {
    params.target_dtype = kernel_dtype(targets, op, "targets.masks");
    params.void_pixels = call.void_data();
  }
  return run_mask_loss_cuda(params, call.logits, with_grad, cuda);
}

MASKFORMER_EXT_CUDA_IMPL(library) { library.impl("matched_mask_loss", TORCH_BOX(&matched_mask_loss_on_gpu)); }

}  // namespace
}  // namespace maskformer_ext
