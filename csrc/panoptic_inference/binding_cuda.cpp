// CUDA kernels of torch.ops.maskformer_ext.panoptic_inference: guard, checks, allocation, launch.
#include <tuple>

#include "panoptic_inference/panoptic_inference_cuda.h"
#include "torch/mask_source_cuda.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "panoptic_inference";

ThingClasses thing_bits(const Size& thing_classes, int64_t classes) {
  ThingClasses things = {};
  for (const int64_t category : thing_classes) {
    if (category < 0 || category >= classes) continue;
    STD_TORCH_CHECK(category < things.kMost, op, ": thing_classes must be below ", things.kMost, " on CUDA, got ",
                    category);
    things.bits[category / 32] |= 1u << (category % 32);
  }
  return things;
}

std::tuple<Tensor, Tensor, Tensor> panoptic_inference_on_gpu(const Tensor& probability_in, const Tensor& mask_logits,
                                                             const Size& size, const Size& thing_classes,
                                                             double object_mask_threshold, double overlap_threshold,
                                                             double mask_threshold,
                                                             const std::optional<Size>& input_size,
                                                             const std::optional<Size>& crop, bool probabilities_first,
                                                             bool weighted_area, bool paint_own, bool of_logits) {
  const CudaScope cuda(mask_logits);
  const Tensor probability = query_probability(op, probability_in, mask_logits);
  CudaMaskSource source(op, mask_logits, size, input_size, crop, false, cuda);
  const Tensor& logits = source.logits();
  const int64_t queries = logits.size(0), columns = probability.size(1);
  STD_TORCH_CHECK(queries <= INT32_MAX / kPanopticColumns && columns <= INT32_MAX, op,
                  ": there must be fewer than 2^31 / ", kPanopticColumns, " queries and 2^31 classes");
  Tensor segment_map = torch::stable::new_empty(logits, {size[0], size[1]}, ScalarType::Int);
  Tensor table = torch::stable::new_empty(logits, {queries, kPanopticColumns}, ScalarType::Double);
  Tensor count = torch::stable::new_empty(logits, {}, ScalarType::Long);
  Tensor score = torch::stable::new_empty(logits, {queries}, ScalarType::Float);
  Tensor workspace = torch::stable::new_empty(logits, {7 * queries + 1}, ScalarType::Int);
  int32_t* next = workspace.mutable_data_ptr<int32_t>();
  const auto take = [&](int64_t elements) {
    int32_t* taken = next;
    next += elements;
    return taken;
  };

  STD_TORCH_CHECK(!(probabilities_first && of_logits), op, ": probabilities_first and of_logits exclude each other");
  PanopticCudaParams params = {};
  params.kept = take(1);
  params.query = take(queries);
  params.category = take(queries);
  params.won = take(queries);
  params.own = take(queries);
  params.painted = take(queries);
  params.first = take(queries);
  params.segment_id = take(queries);
  params.score = score.mutable_data_ptr<float>();
  using Values = PanopticCudaParams::Values;
  params.values = !probabilities_first ? Values::of_logits : input_size ? Values::of_network_input : Values::of_stored;
  if (params.values == Values::of_network_input) {
    const CudaMasks output = source.from_input_to_output();
    params.output_rows = output.rows;
    params.output_columns = output.columns;
    params.masks = source.at_input();
  } else {
    params.masks = source.at_output();
  }
  params.masks.queries = params.query;
  params.masks.kept = params.kept;
  params.out_height = static_cast<int>(size[0]);
  params.out_width = static_cast<int>(size[1]);
  params.probability = probability.const_data_ptr<float>();
  params.queries = static_cast<int>(queries);
  params.columns = static_cast<int>(columns);
  params.object_mask_threshold = static_cast<float>(object_mask_threshold);
  params.mask_threshold = static_cast<float>(mask_threshold);
  params.overlap_threshold = overlap_threshold;
  params.weighted_area = weighted_area;
  params.paint_own = paint_own;
  params.of_logits = of_logits;
  params.segment_map = segment_map.mutable_data_ptr<int32_t>();
  params.table = table.mutable_data_ptr<double>();
  params.count = count.mutable_data_ptr<int64_t>();
  panoptic_inference_cuda(params, thing_bits(thing_classes, columns - 1), cuda.stream);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return {segment_map, table, count};
}

MASKFORMER_EXT_CUDA_IMPL(library) { library.impl("panoptic_inference", TORCH_BOX(&panoptic_inference_on_gpu)); }

}  // namespace
}  // namespace maskformer_ext
