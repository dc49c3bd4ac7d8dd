// Cuts an image's sorted pixels into panels.
#pragma once

#include <algorithm>
#include <vector>

#include "matching_cost_from_embeddings/matching_cost_from_embeddings.h"

namespace maskformer_ext {

class PanelPlan {
 public:
  // `places` are the sorted pixels, padding included.
  void cut(const PixelOrder& order, int64_t places) {
    num_panels_ = (places + kPanelColumns - 1) / kPanelColumns;
    weight_.assign(num_panels_ * kPanelColumns, 0.0f);
    std::copy_n(order.weight, places, weight_.data());
    cut_runs(order);
    list_gaps();
    list_entries(order);
  }

  int64_t num_panels() const { return num_panels_; }
  int64_t num_entries() const { return static_cast<int64_t>(entries_.size()); }

  ImagePanels view(EntrySums* sums) const {
    return {.num_panels = num_panels_,
            .num_entries = num_entries(),
            .runs = runs_.data(),
            .gaps = gaps_.data(),
            .entries = entries_.data(),
            .run_begin = run_begin_.data(),
            .gap_begin = gap_begin_.data(),
            .entry_begin = entry_begin_.data(),
            .weight = weight_.data(),
            .sums = sums};
  }

 private:
  int64_t num_panels_ = 0;
  std::vector<PanelRun> runs_, gaps_;
  std::vector<PanelEntry> entries_;
  std::vector<int64_t> run_begin_, gap_begin_, entry_begin_;
  std::vector<float> weight_;

  // Runs lie in the order of their places, so panels are filled one after the other.
  void cut_runs(const PixelOrder& order) {
    run_begin_.assign(1, 0);
    for (int64_t r = 0; r < order.num_runs; ++r) {
      int64_t pixel = order.source[r], place = order.destination[r], left = order.length[r];
      while (left > 0) {
        const int64_t panel = place / kPanelColumns, column = place % kPanelColumns;
        while (static_cast<int64_t>(run_begin_.size()) <= panel) run_begin_.push_back(runs_.size());
        const int64_t length = std::min(left, kPanelColumns - column);
        runs_.push_back({.pixel = pixel, .column = column, .length = length});
        pixel += length, place += length, left -= length;
      }
    }
    while (static_cast<int64_t>(run_begin_.size()) <= num_panels_) run_begin_.push_back(runs_.size());
  }

  void list_gaps() {
    for (int64_t panel = 0; panel < num_panels_; ++panel) {
      gap_begin_.push_back(gaps_.size());
      const float* weight = weight_.data() + panel * kPanelColumns;
      for (int64_t column = 0; column < kPanelColumns;) {
        const int64_t begin = column;
        while (column < kPanelColumns && weight[column] == 0.0f) ++column;
        if (column > begin) gaps_.push_back({.pixel = -1, .column = begin, .length = column - begin});
        while (column < kPanelColumns && weight[column] != 0.0f) ++column;
      }
    }
    gap_begin_.push_back(gaps_.size());
  }

  void list_entries(const PixelOrder& order) {
    entry_begin_.assign(1, 0);
    for (int64_t group = 0; group < order.num_groups; ++group) {
      for (int64_t place = order.begin[group]; place < order.begin[group + 1];) {
        const int64_t panel = place / kPanelColumns, column = place % kPanelColumns;
        while (static_cast<int64_t>(entry_begin_.size()) <= panel) entry_begin_.push_back(entries_.size());
        const int64_t length = std::min(order.begin[group + 1] - place, kPanelColumns - column);
        entries_.push_back({.group = group, .begin = column, .end = column + length});
        place += length;
      }
    }
    while (static_cast<int64_t>(entry_begin_.size()) <= num_panels_) entry_begin_.push_back(entries_.size());
  }
};

}  // namespace maskformer_ext
