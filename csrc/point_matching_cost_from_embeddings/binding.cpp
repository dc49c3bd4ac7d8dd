// torch.ops.maskformer_ext.point_matching_cost_from_embeddings: schema, checks, allocation and threads, on the CPU.
#include "mask_dot/call.h"
#include "point_matching_cost/call.h"
#include "point_matching_cost_from_embeddings/point_matching_cost_from_embeddings.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "point_matching_cost_from_embeddings";
constexpr int64_t kItems = 64;  // chunks whose sums are kept at once

// Computes the costs of all layers of an image.
void cost_image(const PointBatch& batch, const DotSource& source, int64_t image, float* lines, int64_t line_stride) {
  const PointCostParams& cost = batch.params;
  const int64_t item_size = dtype_size(source.features_dtype);
  if (cost.num_segments[image] > 0 && batch.count() > 0) {
    const FeatureLinesParams features = {
        .features = static_cast<const char*>(source.features) + image * source.image_stride * item_size,
        .dtype = source.features_dtype,
        .channel_stride = source.channel_stride,
        .pixel_stride = source.pixel_stride,
        .channels = source.channels,
        .pixels = source.pixels,
        .lines = lines,
        .stride = line_stride};
    torch::stable::parallel_for(0, source.pixels, 256,
                                [&](int64_t begin, int64_t end) { lay_feature_lines(features, begin, end); });
  }
  const int64_t tiles = (batch.count() + kPointTile - 1) / kPointTile;
  PointEmbeddingsParams params = {.cost = cost,
                                  .embed = source.embed,
                                  .embed_dtype = source.embed_dtype,
                                  .channels = source.channels,
                                  .lines = lines,
                                  .line_stride = line_stride,
                                  .image = image,
                                  .first_layer = 0,
                                  .targets = nullptr,
                                  .chunks = std::max<int64_t>(1, (tiles + kChunkTiles - 1) / kChunkTiles),
                                  .packed = nullptr,
                                  .sums = nullptr,
                                  .sums_rows = point_sums_rows(batch.from_masks(), cost.num_segments[image]),
                                  .wrong = nullptr};
  const int64_t at_once = std::clamp<int64_t>(kItems / params.chunks, 1, cost.layers);
  std::vector<OrderedPoints> ordered(at_once);
  std::vector<PointTargets> targets(at_once);
  baseline::AlignedVector<float> packed(at_once * params.channels * params.padded());
  baseline::AlignedVector<double> sums(at_once * params.chunks * params.sums_rows * params.padded());
  std::vector<uint8_t> wrong(at_once * params.chunks * params.padded());
  params.targets = targets.data();
  params.packed = packed.data();
  params.sums = sums.data();
  params.wrong = wrong.data();
  for (int64_t first = 0; first < cost.layers; first += at_once) {
    const int64_t layers = std::min(at_once, cost.layers - first);
    params.first_layer = first;
    torch::stable::parallel_for(0, layers, 1, [&](int64_t begin, int64_t end) {
      for (int64_t layer = begin; layer < end; ++layer) {
        batch.order(first + layer, image, ordered[layer]);
        targets[layer] = ordered[layer].view;
      }
      pack_queries(params, begin, end);
    });
    torch::stable::parallel_for(0, layers * params.chunks, 1, [&](int64_t begin, int64_t end) {
      baseline::AlignedVector<float> features(kPointTile * line_stride), logits(kPointTile * params.padded());
      point_embeddings_sums(params, features.data(), logits.data(), begin, end);
    });
    torch::stable::parallel_for(0, layers, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> probability(cost.classes + 1);
      point_embeddings_costs(params, probability.data(), begin, end);
    });
  }
}

Tensor point_matching_cost_from_embeddings_cpu(const Tensor& class_logits, const Tensor& mask_embed,
                                               const Tensor& mask_features, const Tensor& pixels, const Tensor& labels,
                                               const Tensor& num_segments, const Tensor& points, double class_weight,
                                               double mask_weight, double dice_weight, int64_t sampling,
                                               bool /* allow_tf32: products are float32 here */) {
  const DotTensors dot(op, mask_embed, mask_features);
  const DotSource& source = dot.source;
  const int64_t dim = class_logits.dim();
  STD_TORCH_CHECK(dim == mask_embed.dim() && class_logits.numel() == source.layers * source.images * source.queries *
                                                                         class_logits.size(dim - 1),
                  op, ": class_logits must begin as mask_embed, got ", shape_string(class_logits), " and ",
                  shape_string(mask_embed));
  const PointBatch batch(op, class_logits, pixels, labels, num_segments, points,
                         {class_weight, mask_weight, dice_weight}, sampling, mask_features.size(2),
                         mask_features.size(3));
  if (batch.cost.numel() == 0) return batch.cost;
  const int64_t line_stride = (source.channels + kQueryBlock - 1) / kQueryBlock * kQueryBlock;
  Tensor lines = torch::stable::new_empty(class_logits, {(source.pixels + 1) * line_stride}, ScalarType::Float);
  for (int64_t image = 0; image < source.images; ++image) {
    cost_image(batch, source, image, lines.mutable_data_ptr<float>(), line_stride);
  }
  return batch.cost;
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def(
      "point_matching_cost_from_embeddings(Tensor class_logits, Tensor mask_embed, Tensor mask_features, Tensor "
      "pixels, Tensor labels, Tensor num_segments, Tensor points, float class_weight, float mask_weight, float "
      "dice_weight, int sampling, bool allow_tf32=False) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("point_matching_cost_from_embeddings", TORCH_BOX(&point_matching_cost_from_embeddings_cpu));
}

}  // namespace
}  // namespace maskformer_ext
