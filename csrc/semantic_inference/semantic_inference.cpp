// CPU kernel of semantic inference: rows of class scores, reduced to labels or added to a map of scores.
#include "semantic_inference/semantic_inference.h"

#include <algorithm>

#include "common/aligned.h"
#include "common/math.h"
#include "common/tap_table.h"
#include "semantic_inference/score_tile.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

// Where the scores of a tile go: the labels of an output row.
struct Labels {
  int64_t* row;
  BestClass best;

  void add(int64_t k, int v, FloatVec score) { best.add(k, v, score); }
  void finish(int64_t x, int64_t count) {
    best.store(row + x, count);
    best = BestClass();
  }
};

// ... or a row of each class's plane, overwritten or added to.
struct Planes {
  float* row;  // of class 0
  int64_t class_stride;
  float weight;
  bool accumulate;
  float tile[kTilePixels] = {};

  void add_class(int64_t k, int64_t x, int64_t count, const FloatVec* score) {
    for (int v = 0; v < kTileVectors; ++v) store(tile + v * kLanes, weight * score[v]);
    float* to = row + k * class_stride + x;
    if (accumulate) {
      for (int64_t i = 0; i < count; ++i) to[i] += tile[i];
    } else {
      for (int64_t i = 0; i < count; ++i) to[i] = tile[i];
    }
  }
};

// Mask probabilities and class scores of rows of one grid, the output or, with scores_first, the network input.
class ScoreRows {
 public:
  ScoreRows(const SemanticParams& params, const AxisResize& rows, const AxisResize& columns)
      : p_(params),
        row_taps_(tap_table(rows)),
        out_rows_(rows.out),
        out_columns_(columns.out),
        column_taps_(columns),
        classes_(params.probability, params.classes, params.queries, params.active),
        pitch_((params.width + kLanes - 1) / kLanes * kLanes + kLanes),
        blended_(params.active * pitch_, 0.0f),
        masks_(params.active * kTilePixels, 0.0f) {}

  int64_t width() const { return out_columns_; }

  // Calls use(x, count, block, sums) for every tile of row y and every block of classes, classes in ascending order.
  template <class Use>
  void row(int64_t y, Use&& use) {
    for_float_type(p_.dtype, [&](auto type) {
      const auto* logits = static_cast<const decltype(type)*>(p_.mask_logits);
      for (int64_t q = 0; q < p_.active; ++q) {
        blend_rows(row_taps_, out_rows_, y, logits + p_.queries[q] * p_.query_stride, p_.row_stride, p_.width,
                   blended_.data() + q * pitch_);
      }
    });
    for_column_taps(column_taps_, [&]<int kTaps, bool kClose>() {
      for (int64_t x = 0; x < out_columns_; x += kTilePixels) {
        fill_masks<kTaps, kClose>(x / kLanes);
        for (int64_t block = 0; block < classes_.blocks(); ++block) {
          FloatVec sums[kTileClasses][kTileVectors];
          score_tile(classes_.block(block), masks_.data(), p_.active, sums);
          use(x, std::min(kTilePixels, out_columns_ - x), block, sums);
        }
      }
    });
  }

  int64_t blocks() const { return classes_.blocks(); }

 private:
  template <int kTaps, bool kClose>
  void fill_masks(int64_t vector) {
    const int64_t last = column_taps_.vectors() - 1;
    for (int64_t q = 0; q < p_.active; ++q) {
      const float* row = blended_.data() + q * pitch_;
      for (int v = 0; v < kTileVectors; ++v) {
        const FloatVec logits = column_taps_.resize<kTaps, kClose>(row, std::min(vector + v, last));
        store(masks_.data() + q * kTilePixels + v * kLanes, sigmoid(logits));
      }
    }
  }

  const SemanticParams& p_;
  TapTable row_taps_;
  int64_t out_rows_, out_columns_;
  ColumnTaps column_taps_;
  PackedClasses classes_;
  int64_t pitch_;
  AlignedVector<float> blended_;  // (active, pitch): a row of every query, resized vertically
  AlignedVector<float> masks_;    // (active, kTilePixels)
};

Planes output_planes(const SemanticParams& p, int64_t y) {
  return {p.scores + y * p.out_width, p.out_height * p.out_width, p.weight, true};
}

void resized_logits(const SemanticParams& p, int64_t begin, int64_t end) {
  ScoreRows scores(p, {p.height, p.input_height, p.crop_height, p.out_height, false},
                   {p.width, p.input_width, p.crop_width, p.out_width, p.flip});
  for (int64_t y = begin; y < end; ++y) {
    if (p.labels != nullptr) {
      Labels labels{p.labels + y * p.out_width, {}};
      scores.row(y, [&](int64_t x, int64_t count, int64_t block, const auto& sums) {
        for (int i = 0; i < kTileClasses; ++i) {
          const int64_t k = block * kTileClasses + i;
          if (k >= p.classes) break;
          for (int v = 0; v < kTileVectors; ++v) labels.add(k, v, sums[i][v]);
        }
        if (block + 1 == scores.blocks()) labels.finish(x, count);
      });
    } else {
      Planes planes = output_planes(p, y);
      scores.row(y, [&](int64_t x, int64_t count, int64_t block, const auto& sums) {
        for (int i = 0; i < kTileClasses; ++i) {
          const int64_t k = block * kTileClasses + i;
          if (k < p.classes) planes.add_class(k, x, count, sums[i]);
        }
      });
    }
  }
}

// Scores at the network input, of which two rows are held, then resized.
class ResizedScores {
 public:
  explicit ResizedScores(const SemanticParams& p)
      : p_(p),
        height_(p.input_height > 0 ? p.crop_height : p.height),
        width_(p.input_height > 0 ? p.crop_width : p.width),
        scores_(p, {p.height, 0, 0, p.input_height > 0 ? p.input_height : p.height, false},
                {p.width, 0, 0, p.input_height > 0 ? p.input_width : p.width, false}),
        columns_({width_, 0, 0, p.out_width, p.flip}),
        pitch_((std::max(width_, scores_.width()) + kLanes - 1) / kLanes * kLanes + kLanes),
        held_(2 * p.classes * pitch_, 0.0f),
        blended_(p.classes * pitch_, 0.0f) {}

  void row(int64_t y) {
    const ResizeTap tap = resize_tap(y, height_, p_.out_height);
    const float* lower = score_row(tap.lower);
    const float* upper = tap.weight == 0.0f ? lower : score_row(tap.upper);
    const float upper_weight = tap.weight, lower_weight = 1.0f - tap.weight;
    const int64_t elements = p_.classes * pitch_;
    float* blended = blended_.data();
#pragma omp simd
    for (int64_t i = 0; i < elements; ++i) blended[i] = lower_weight * lower[i] + upper_weight * upper[i];
    for_column_taps(columns_, [&]<int kTaps, bool kClose>() { resize_columns<kTaps, kClose>(y); });
  }

 private:
  const float* score_row(int64_t y) {
    const int slot = static_cast<int>(y & 1);
    float* row = held_.data() + slot * p_.classes * pitch_;
    if (rows_[slot] == y) return row;
    rows_[slot] = y;
    Planes planes{row, pitch_, 1.0f, false};
    scores_.row(y, [&](int64_t x, int64_t count, int64_t block, const auto& sums) {
      for (int i = 0; i < kTileClasses; ++i) {
        const int64_t k = block * kTileClasses + i;
        if (k < p_.classes) planes.add_class(k, x, count, sums[i]);
      }
    });
    return row;
  }

  template <int kTaps, bool kClose>
  void resize_columns(int64_t y) {
    const int64_t last = columns_.vectors() - 1;
    Labels labels{p_.labels + y * p_.out_width, {}};
    Planes planes = output_planes(p_, y);
    for (int64_t x = 0; x < p_.out_width; x += kTilePixels) {
      const int64_t count = std::min(kTilePixels, p_.out_width - x);
      for (int64_t k = 0; k < p_.classes; ++k) {
        FloatVec score[kTileVectors];
        for (int v = 0; v < kTileVectors; ++v) {
          score[v] = columns_.resize<kTaps, kClose>(blended_.data() + k * pitch_, std::min(x / kLanes + v, last));
        }
        if (p_.labels != nullptr) {
          for (int v = 0; v < kTileVectors; ++v) labels.add(k, v, score[v]);
        } else {
          planes.add_class(k, x, count, score);
        }
      }
      if (p_.labels != nullptr) labels.finish(x, count);
    }
  }

  const SemanticParams& p_;
  int64_t height_, width_;
  ScoreRows scores_;
  ColumnTaps columns_;
  int64_t pitch_;
  AlignedVector<float> held_;  // (2, K, pitch): rows of even and of odd number
  AlignedVector<float> blended_;
  int64_t rows_[2] = {-1, -1};
};

}  // namespace

void semantic_rows(const SemanticParams& params, int64_t begin, int64_t end) {
  if (!params.scores_first) return resized_logits(params, begin, end);
  ResizedScores scores(params);
  for (int64_t y = begin; y < end; ++y) scores.row(y);
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
