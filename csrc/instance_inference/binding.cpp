// torch.ops.maskformer_ext.instance_masks: schema, checks and allocation, on the CPU.
#include "instance_inference/instance_inference.h"

#include <numeric>
#include <tuple>

#include "instance_inference/positive_masks.h"
#include "torch/mask_source.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "instance_inference";

std::tuple<Tensor, Tensor, Tensor> instance_masks_cpu(const Tensor& mask_logits, const Size& size, double threshold,
                                                      const std::optional<Size>& input_size,
                                                      const std::optional<Size>& crop,
                                                      const std::optional<Size>& chosen) {
  const Tensor logits = with_contiguous_rows(mask_logits);
  InstanceParams params = {};
  params.masks = mask_source(op, logits, size, input_size, crop, false);
  std::vector<int64_t> queries = chosen ? *chosen : std::vector<int64_t>(logits.size(0));
  if (!chosen) std::iota(queries.begin(), queries.end(), int64_t{0});
  for (const int64_t query : queries) {
    STD_TORCH_CHECK(query >= 0 && query < logits.size(0), op, ": queries must be in [0, ", logits.size(0), "), got ",
                    query);
  }
  const int64_t count = static_cast<int64_t>(queries.size());
  params.masks.queries = queries.data();
  params.masks.count = count;
  params.threshold = static_cast<float>(threshold);
  params.rows_per_block = 64;
  params.blocks = (size[0] + params.rows_per_block - 1) / params.rows_per_block;
  params.row_bytes = (size[1] + 7) / 8;
  Tensor mean = torch::stable::new_empty(logits, {count}, ScalarType::Float);
  Tensor boxes = torch::stable::new_empty(logits, {count, 4}, ScalarType::Float);
  Tensor bits = torch::stable::new_empty(logits, {count, size[0], params.row_bytes}, ScalarType::Byte);
  std::vector<InstancePart> parts(count * params.blocks);
  params.bits = bits.mutable_data_ptr<uint8_t>();
  params.parts = parts.data();
  torch::stable::parallel_for(0, count * params.blocks, 1,
                              [&](int64_t begin, int64_t end) { instance_blocks(params, begin, end); });
  for (int64_t query = 0; query < count; ++query) {
    InstancePart whole = {0.0, 0, size[1], size[0], 0, 0};
    for (int64_t block = 0; block < params.blocks; ++block) join(whole, parts[query * params.blocks + block]);
    write_instance(whole, mean.mutable_data_ptr<float>() + query, boxes.mutable_data_ptr<float>() + 4 * query);
  }
  return {mean, boxes, bits};
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def(
      "instance_masks(Tensor mask_logits, SymInt[] size, float threshold, SymInt[]? input_size, SymInt[]? crop, "
      "int[]? queries=None) -> (Tensor mean, Tensor boxes, Tensor bits)");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("instance_masks", TORCH_BOX(&instance_masks_cpu));
}

}  // namespace
}  // namespace maskformer_ext

void maskformer_ext_positive_masks(const float* logits, const int64_t* queries, int64_t count, int64_t query_stride,
                                   int64_t row_stride, int64_t height, int64_t width, uint8_t* bits, double* sums,
                                   int64_t* pixels) {
  const maskformer_ext::PositiveParams params = {logits, queries, query_stride, row_stride, height,
                                                 width,  bits,    sums,         pixels};
  torch::stable::parallel_for(0, count, 1,
                              [&](int64_t begin, int64_t end) { maskformer_ext::positive_masks(params, begin, end); });
}
