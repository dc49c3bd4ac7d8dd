// torch.ops.maskformer_ext.panoptic_inference: schema, checks and the table of segments, on the CPU.
#include "panoptic_inference/panoptic_inference.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "torch/mask_source.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "panoptic_inference";

struct Kept {
  std::vector<int64_t> query, category;
  std::vector<float> score;
};

// Lists the queries whose most probable class, the first of equal ones, is not "no object" and more probable than a
// threshold.
Kept keep_queries(const float* probability, int64_t queries, int64_t columns, double threshold) {
  Kept kept;
  for (int64_t q = 0; q < queries; ++q) {
    const float* row = probability + q * columns;
    const int64_t category = std::max_element(row, row + columns) - row;
    if (category == columns - 1 || !(row[category] > static_cast<float>(threshold))) continue;
    kept.query.push_back(q);
    kept.category.push_back(category);
    kept.score.push_back(row[category]);
  }
  return kept;
}

std::tuple<Tensor, Tensor, Tensor> panoptic_inference_cpu(const Tensor& probability_in, const Tensor& mask_logits,
                                                          const Size& size, const Size& thing_classes,
                                                          double object_mask_threshold, double overlap_threshold,
                                                          double mask_threshold, const std::optional<Size>& input_size,
                                                          const std::optional<Size>& crop, bool probabilities_first,
                                                          bool weighted_area, bool paint_own, bool of_logits) {
  const Tensor logits = with_contiguous_rows(mask_logits);
  const Tensor probability = query_probability(op, probability_in, mask_logits);
  STD_TORCH_CHECK(!(probabilities_first && of_logits), op, ": probabilities_first and of_logits exclude each other");
  PanopticParams params = {};
  params.masks = mask_source(op, logits, size, input_size, crop, false);
  Tensor segment_map = torch::stable::new_empty(logits, {size[0], size[1]}, ScalarType::Int);
  Tensor table = torch::stable::new_zeros(logits, {logits.size(0), kPanopticColumns}, ScalarType::Double);
  Tensor count = torch::stable::new_zeros(logits, {}, ScalarType::Long);
  int32_t* pixels = segment_map.mutable_data_ptr<int32_t>();
  const int64_t total = size[0] * size[1];
  const Kept kept =
      keep_queries(probability.const_data_ptr<float>(), logits.size(0), probability.size(1), object_mask_threshold);
  if (kept.query.empty()) {
    std::fill(pixels, pixels + total, 0);
    return {segment_map, table, count};
  }

  const int64_t queries = static_cast<int64_t>(kept.query.size());
  params.masks.queries = kept.query.data();
  params.masks.count = queries;
  params.score = kept.score.data();
  params.mask_threshold = static_cast<float>(mask_threshold);
  params.probabilities_first = probabilities_first;
  params.weighted_area = weighted_area;
  params.paint_own = paint_own;
  params.of_logits = of_logits;
  params.rows_per_block = 16;
  params.winner = pixels;
  const int64_t blocks = (size[0] + params.rows_per_block - 1) / params.rows_per_block;
  std::vector<int64_t> won(blocks * queries), own(blocks * queries), painted(paint_own ? blocks * queries : 0);
  params.won = won.data();
  params.own = own.data();
  params.painted = painted.data();
  torch::stable::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) { panoptic_blocks(params, begin, end); });

  double* rows = table.mutable_data_ptr<double>();
  std::vector<int32_t> ids(queries);
  std::map<int64_t, int32_t> stuff;
  int32_t last = 0;
  const bool strict = weighted_area || paint_own;
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t block = 1; block < blocks; ++block) {
      won[i] += won[block * queries + i];
      own[i] += own[block * queries + i];
      if (paint_own) painted[i] += painted[block * queries + i];
    }
    const int64_t area = paint_own ? painted[i] : won[i];
    const int64_t category = kept.category[i];
    const bool thing = std::find(thing_classes.begin(), thing_classes.end(), category) != thing_classes.end();
    if (panoptic_accepted(won[i], own[i], area, overlap_threshold, strict)) {
      const auto joined = thing ? stuff.end() : stuff.find(category);
      ids[i] = joined != stuff.end() ? joined->second : ++last;
      if (!thing) stuff[category] = ids[i];
    }
    const double row[kPanopticColumns] = {static_cast<double>(ids[i]), static_cast<double>(category), thing ? 1.0 : 0.0,
                                          kept.score[i], static_cast<double>(area)};
    std::copy(row, row + kPanopticColumns, rows + kept.query[i] * kPanopticColumns);
  }
  *count.mutable_data_ptr<int64_t>() = last;
  torch::stable::parallel_for(0, total, 1 << 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) pixels[i] = pixels[i] < 0 ? 0 : ids[pixels[i]];
  });
  return {segment_map, table, count};
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def(
      "panoptic_inference(Tensor probability, Tensor mask_logits, SymInt[] size, int[] thing_classes, "
      "float object_mask_threshold, float overlap_threshold, float mask_threshold, SymInt[]? input_size, "
      "SymInt[]? crop, bool probabilities_first, bool weighted_area, bool paint_own=False, "
      "bool of_logits=False) -> (Tensor, Tensor, Tensor)");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("panoptic_inference", TORCH_BOX(&panoptic_inference_cpu));
}

}  // namespace
}  // namespace maskformer_ext
