// The matching cost straight from embeddings: logits live for one block of queries and one panel of pixels. Torch-free.
//
// An image's pixels are sorted by group, as for matching_cost, and cut into panels. Each panel is multiplied with all
// queries of all layers. It is reduced at once to sums, one entry per group that it touches. Then every query adds up
// its entries in order.
#pragma once

#include <cstdint>

#include "common/cpu_dispatch.h"
#include "common/dot_panel.h"
#include "matching_cost/matching_cost.h"

namespace maskformer_ext {

// The columns of a panel that belong to one group.
struct PanelEntry {
  int64_t group, begin, end;
};

// Sums over the pixels of an entry, for one query. `foreground` is NaN where a logit is not finite.
struct EntrySums {
  float positive, negative, foreground, background;
};

// One image's panels. The lists of panel p are [begin[p], begin[p + 1]).
struct ImagePanels {
  int64_t num_panels, num_entries;
  const PanelRun *runs, *gaps;
  const PanelEntry* entries;
  const int64_t *run_begin, *gap_begin, *entry_begin;  // (num_panels + 1,)
  const float* weight;                                 // (num_panels * kPanelColumns,) 1 for a pixel, 0 for padding
  EntrySums* sums;                                     // (layers * queries, num_entries)
};

struct EmbeddingsCostParams {
  MatchingCostParams cost;  // without mask logits
  DotSource source;
  const ImagePanels* panels;       // (images,)
  const uint8_t* finite_features;  // (images,) 0: a feature is not finite; null where all pixels lie in panels
};

// Reduces panels. Item i is image items[2 * i] and panel items[2 * i + 1]. `panel` holds channels * kPanelColumns +
// kPanelSlack floats for this thread.
MASKFORMER_EXT_CPU_KERNEL(embeddings_cost_panels, const EmbeddingsCostParams& params, const int64_t* items,
                          float* panel, int64_t begin, int64_t end);

// Writes the costs of rows [begin, end) of (layers, images, queries), from the sums of their panels.
MASKFORMER_EXT_CPU_KERNEL(embeddings_cost_rows, const EmbeddingsCostParams& params, const MatchingCostScratch& scratch,
                          int64_t begin, int64_t end);

// Finds out whether all features of images [begin, end) are finite.
MASKFORMER_EXT_CPU_KERNEL(features_finite, const DotSource& source, uint8_t* finite, int64_t begin, int64_t end);

}  // namespace maskformer_ext
