// torch.ops.maskformer_ext.matching_cost_from_embeddings: schema, checks, allocation and threads, on the CPU.
#include "mask_dot/call.h"
#include "mask_dot/mask_dot.h"
#include "matching_cost/call.h"
#include "matching_cost_from_embeddings/matching_cost_from_embeddings.h"
#include "matching_cost_from_embeddings/panel_plan.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "matching_cost_from_embeddings";

// Cuts the pixels of images that have groups into panels, reduces them, and adds up the sums of every query.
void reduce_panels(EmbeddingsCostParams& params, const DotTensors& dot, const PreparedBatch& batch) {
  const int64_t images = params.source.images, rows = params.source.rows();
  std::vector<PanelPlan> plans(images);
  std::vector<std::vector<EntrySums>> sums(images);
  std::vector<ImagePanels> panels(images);
  std::vector<int64_t> items;
  for (int64_t b = 0; b < images; ++b) {
    const PixelOrder& order = batch[b].order;
    if (batch[b].sorted_masks == nullptr && batch.counts()[b] > 0) plans[b].cut(order, order.begin[order.num_groups]);
    sums[b].resize(rows * plans[b].num_entries());
    panels[b] = plans[b].view(sums[b].data());
    for (int64_t panel = 0; panel < plans[b].num_panels(); ++panel) items.insert(items.end(), {b, panel});
  }
  params.panels = panels.data();
  torch::stable::parallel_for(0, items.size() / 2, 1, [&](int64_t begin, int64_t end) {
    AlignedVector<float> panel(dot.panel_floats());
    embeddings_cost_panels(params, items.data(), panel.data(), begin, end);
  });
  torch::stable::parallel_for(0, images * rows, 64, [&](int64_t begin, int64_t end) {
    const MatchingCostStorage thread(0, 0, batch.groups(), params.cost.classes, params.cost.segments);
    embeddings_cost_rows(params, thread.scratch, begin, end);
  });
}

// Computes the cost of images whose masks overlap in too many ways to have groups: logits of one layer and image at a
// time.
void reduce_logits(const EmbeddingsCostParams& params, const DotTensors& dot, const PreparedBatch& batch,
                   int64_t image) {
  const DotSource& all = params.source;
  AlignedVector<float> logits(all.queries * all.pixels), packed((all.queries + kDotRows) * all.channels);
  const int64_t item_size = dtype_size(all.embed_dtype), feature_size = dtype_size(all.features_dtype);
  for (int64_t layer = 0; layer < all.layers; ++layer) {
    const int64_t first_row = (layer * all.images + image) * all.queries;
    MaskDotParams one = {
        .source = all, .activation = MaskDotActivation::none, .out = logits.data(), .out_dtype = DType::float32};
    one.source.layers = one.source.images = 1;
    one.source.embed = static_cast<const char*>(all.embed) + first_row * all.channels * item_size;
    one.source.features = static_cast<const char*>(all.features) + image * all.image_stride * feature_size;
    one.source.packed = packed.data();
    mask_dot_pack(one.source, 0, one.source.row_blocks());
    torch::stable::parallel_for(0, one.panels(), 1, [&](int64_t begin, int64_t end) {
      AlignedVector<float> panel(dot.panel_floats());
      mask_dot_fwd(one, panel.data(), begin, end);
    });
    MatchingCostParams cost = params.cost;
    cost.mask_logits = logits.data();
    cost.first_row = first_row;
    torch::stable::parallel_for(first_row, first_row + all.queries, 1, [&](int64_t begin, int64_t end) {
      const MatchingCostStorage thread(all.pixels, batch.places(), batch.groups(), cost.classes, cost.segments);
      matching_cost_fwd(cost, thread.scratch, begin, end);
    });
  }
}

Tensor matching_cost_from_embeddings_cpu(const Tensor& class_logits_in, const Tensor& mask_embed,
                                         const Tensor& mask_features, const Tensor& pixels, const Tensor& labels,
                                         const Tensor& num_segments, const std::optional<Tensor>& void_pixels,
                                         double class_weight, double focal_weight, double dice_weight, double alpha,
                                         double gamma, bool ignore_void, bool /* allow_tf32 */) {
  const Tensor class_logits = torch::stable::contiguous(class_logits_in);
  DotTensors dot(op, mask_embed, mask_features);
  const DotSource& source = dot.source;
  const int64_t dim = class_logits.dim();
  STD_TORCH_CHECK(dim == mask_embed.dim() && class_logits.numel() == source.layers * source.images * source.queries *
                                                                         class_logits.size(dim - 1),
                  op, ": class_logits must begin as mask_embed, got ", shape_string(class_logits), " and ",
                  shape_string(mask_embed));
  const PreparedBatch batch(op, pixels, labels, num_segments, void_pixels, ignore_void, source.images,
                            class_logits.size(dim - 1) - 1, mask_features.size(2), mask_features.size(3));
  Tensor cost = batch.new_cost(class_logits);
  if (cost.numel() == 0) return cost;
  EmbeddingsCostParams params = {
      .cost = batch.params(op, class_logits, {class_weight, focal_weight, dice_weight, alpha, gamma}, cost),
      .source = source,
      .panels = nullptr,
      .finite_features = nullptr};
  torch::stable::parallel_for(0, source.images * source.row_blocks(), 16,
                              [&](int64_t begin, int64_t end) { mask_dot_pack(source, begin, end); });
  std::vector<uint8_t> finite(source.images, 1);
  if (ignore_void) {  // the features of void pixels are in no panel
    torch::stable::parallel_for(
        0, source.images, 1, [&](int64_t begin, int64_t end) { features_finite(source, finite.data(), begin, end); });
    params.finite_features = finite.data();
  }
  reduce_panels(params, dot, batch);
  for (int64_t b = 0; b < source.images; ++b) {
    if (batch[b].sorted_masks != nullptr) reduce_logits(params, dot, batch, b);
  }
  return cost;
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def(
      "matching_cost_from_embeddings(Tensor class_logits, Tensor mask_embed, Tensor mask_features, Tensor pixels, "
      "Tensor labels, Tensor num_segments, Tensor? void, float class_weight, float focal_weight, float dice_weight, "
      "float alpha, float gamma, bool ignore_void, bool allow_tf32=False) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("matching_cost_from_embeddings", TORCH_BOX(&matching_cost_from_embeddings_cpu));
}

}  // namespace
}  // namespace maskformer_ext
