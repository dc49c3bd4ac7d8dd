// CUDA kernels of torch.ops.maskformer_ext.instance_masks: guard, allocation, launch.
#include <tuple>

#include "instance_inference/instance_inference_cuda.h"
#include "torch/mask_source_cuda.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "instance_inference";

std::tuple<Tensor, Tensor, Tensor> instance_masks_on_gpu(const Tensor& mask_logits, const Size& size, double threshold,
                                                         const std::optional<Size>& input_size,
                                                         const std::optional<Size>& crop,
                                                         const std::optional<Size>& queries) {
  STD_TORCH_CHECK(!queries, op, ": queries must be chosen by an index on a GPU, got a list of ", queries->size());
  const CudaScope cuda(mask_logits);
  CudaMaskSource source(op, mask_logits, size, input_size, crop, false, cuda);
  const Tensor& logits = source.logits();
  const int64_t count = logits.size(0), row_bytes = (size[1] + 7) / 8;
  InstanceCudaParams params = {};
  params.masks = source.at_output();
  params.threshold = static_cast<float>(threshold);
  params.row_bytes = static_cast<int>(row_bytes);
  STD_TORCH_CHECK(count <= INT32_MAX / params.strips(), op, ": there must be fewer queries than 2^31 / (H / ",
                  params.kRows, "), got ", count);
  Tensor mean = torch::stable::new_empty(logits, {count}, ScalarType::Float);
  Tensor boxes = torch::stable::new_empty(logits, {count, 4}, ScalarType::Float);
  Tensor bits = torch::stable::new_empty(logits, {count, size[0], row_bytes}, ScalarType::Byte);
  constexpr int64_t part_bytes = sizeof(InstancePart);
  Tensor parts = torch::stable::new_empty(logits, {count * params.strips() * part_bytes}, ScalarType::Byte);
  params.bits = bits.mutable_data_ptr<uint8_t>();
  params.parts = static_cast<InstancePart*>(parts.mutable_data_ptr());
  params.mean = mean.mutable_data_ptr<float>();
  params.boxes = boxes.mutable_data_ptr<float>();
  instance_masks_cuda(params, cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {mean, boxes, bits};
}

MASKFORMER_EXT_CUDA_IMPL(library) { library.impl("instance_masks", TORCH_BOX(&instance_masks_on_gpu)); }

}  // namespace
}  // namespace maskformer_ext
