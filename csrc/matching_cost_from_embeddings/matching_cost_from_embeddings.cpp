// CPU kernels of matching_cost_from_embeddings: panels to sums, sums to costs.
#include "matching_cost_from_embeddings/matching_cost_from_embeddings.h"

#include <limits>

#include "matching_cost/group_sums.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

bool all_finite(const float* x, int64_t n) {
  int32_t wrong = 0;
#pragma omp simd reduction(| : wrong)
  for (int64_t i = 0; i < n; ++i) wrong |= !(std::fabs(x[i]) <= FLT_MAX);
  return wrong == 0;
}

template <bool kSquare>
void reduce_block(const EmbeddingsCostParams& p, const ImagePanels& panels, int64_t panel, int64_t first_row,
                  const float* block) {
  const int64_t first = panels.entry_begin[panel], last = panels.entry_begin[panel + 1];
  const float* weight = panels.weight + panel * kPanelColumns;
  const int64_t columns = panels.entries[last - 1].end;
  const int64_t rows = std::min(kDotRows, p.source.rows() - first_row);
  for (int64_t r = 0; r < rows; ++r) {
    const float* logits = block + r * kPanelColumns;
    EntrySums* sums = panels.sums + (first_row + r) * panels.num_entries;
    const bool finite = all_finite(logits, columns);
    for (int64_t e = first; e < last; ++e) {
      const PanelEntry& entry = panels.entries[e];
      const GroupSums group = sum_group<kSquare>(logits, weight, entry.begin, entry.end, p.cost.gamma);
      sums[e] = {.positive = static_cast<float>(group.positive),
                 .negative = static_cast<float>(group.negative),
                 .foreground = finite ? static_cast<float>(group.foreground) : std::numeric_limits<float>::quiet_NaN(),
                 .background = static_cast<float>(group.background)};
    }
  }
}

void reduce_panel(const EmbeddingsCostParams& p, int64_t image, int64_t panel, float* features) {
  const ImagePanels& panels = p.panels[image];
  const int64_t depth = p.source.channels;
  pack_panel(p.source, image, panels.runs + panels.run_begin[panel],
             panels.run_begin[panel + 1] - panels.run_begin[panel], panels.gaps + panels.gap_begin[panel],
             panels.gap_begin[panel + 1] - panels.gap_begin[panel], features);
  alignas(64) float block[kDotRows * kPanelColumns];
  const int64_t columns = panels.entries[panels.entry_begin[panel + 1] - 1].end;
  const float* embed = p.source.packed + image * p.source.row_blocks() * depth * kDotRows;
  for (int64_t row = 0; row < p.source.rows(); row += kDotRows) {
    dot_block(embed + row * depth, features, depth, columns, block);
    if (p.cost.gamma == 2.0f) {
      reduce_block<true>(p, panels, panel, row, block);
    } else {
      reduce_block<false>(p, panels, panel, row, block);
    }
  }
}

// Adds up a query's entries in order. Returns the whole foreground, NaN where a logit is not finite.
double gather_entries(const ImagePanels& panels, const PixelOrder& order, int64_t row, FocalFactors factors,
                      const MatchingCostScratch& scratch) {
  std::fill_n(scratch.positive, order.num_groups, 0.0);
  std::fill_n(scratch.negative, order.num_groups, 0.0);
  std::fill_n(scratch.foreground, order.num_groups, 0.0);
  std::fill_n(scratch.background, order.num_groups, 0.0);
  const EntrySums* sums = panels.sums + row * panels.num_entries;
  double foreground = 0.0;
  for (int64_t e = 0; e < panels.num_entries; ++e) {
    const int64_t group = panels.entries[e].group;
    scratch.positive[group] += factors.positive * sums[e].positive;
    scratch.negative[group] += factors.negative * sums[e].negative;
    scratch.foreground[group] += sums[e].foreground;
    scratch.background[group] += sums[e].background;
    foreground += sums[e].foreground;
  }
  return foreground;
}

bool finite_embedding(const DotSource& source, int64_t row) {
  bool finite = true;
  for_float_type(source.embed_dtype, [&](auto type) {
    const auto* embed = static_cast<const decltype(type)*>(source.embed) + row * source.channels;
    for (int64_t c = 0; c < source.channels; ++c) finite &= std::fabs(to_float(embed[c])) <= FLT_MAX;
  });
  return finite;
}

void cost_row(const EmbeddingsCostParams& p, const MatchingCostScratch& scratch, int64_t index) {
  const MatchingCostParams& c = p.cost;
  const int64_t image = index / c.queries % c.images, layer = index / (c.queries * c.images);
  const ImageTargets& targets = c.targets[image];
  const int64_t num_segments = c.num_segments[image];
  float* cost = c.cost + index * c.segments;
  if (targets.sorted_masks != nullptr) return;  // matching_cost's kernel takes over
  std::fill(cost + num_segments, cost + c.segments, 0.0f);
  if (num_segments == 0) return;
  const double foreground = gather_entries(p.panels[image], targets.order, layer * c.queries + index % c.queries,
                                           focal_factors(c.alpha), scratch);
  // The embedding is checked as well, for images without a pixel that counts.
  const bool finite = (p.finite_features == nullptr || p.finite_features[image] != 0) && !std::isnan(foreground) &&
                      finite_embedding(p.source, index) && class_probability(c, index, scratch);
  if (!finite) {
    std::fill(cost, cost + num_segments, INFINITY);
    return;
  }
  add_groups(targets, num_segments, scratch);
  write_costs(c, targets, num_segments, foreground, c.labels + image * c.segments, scratch, cost);
}

}  // namespace

void embeddings_cost_panels(const EmbeddingsCostParams& params, const int64_t* items, float* panel, int64_t begin,
                            int64_t end) {
  for (int64_t i = begin; i < end; ++i) reduce_panel(params, items[2 * i], items[2 * i + 1], panel);
}

void embeddings_cost_rows(const EmbeddingsCostParams& params, const MatchingCostScratch& scratch, int64_t begin,
                          int64_t end) {
  for (int64_t index = begin; index < end; ++index) cost_row(params, scratch, index);
}

void features_finite(const DotSource& source, uint8_t* finite, int64_t begin, int64_t end) {
  for (int64_t image = begin; image < end; ++image) {
    bool all = true;
    for_float_type(source.features_dtype, [&](auto type) {
      const auto* features = static_cast<const decltype(type)*>(source.features) + image * source.image_stride;
      const bool channels_inside = source.channel_stride < source.pixel_stride;
      const int64_t outer = channels_inside ? source.pixels : source.channels;
      const int64_t inner = channels_inside ? source.channels : source.pixels;
      const int64_t outer_stride = channels_inside ? source.pixel_stride : source.channel_stride;
      const int64_t inner_stride = channels_inside ? source.channel_stride : source.pixel_stride;
      for (int64_t i = 0; i < outer && all; ++i) {
        for (int64_t j = 0; j < inner; ++j)
          all &= std::fabs(to_float(features[i * outer_stride + j * inner_stride])) <= FLT_MAX;
      }
    });
    finite[image] = all;
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
