// CPU kernel of semantic inference: rows of class scores, reduced to labels or added to a map of scores.
#include "semantic_inference/semantic_inference.h"

#include <utility>

#include "common/math.h"
#include "semantic_inference/score_tile.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

// Where the scores of a tile go: the labels of an output row.
struct Labels {
  int64_t* row;
  BestClass best;

  void add(int64_t k, const FloatVec (&score)[kTileVectors]) {
    for (int v = 0; v < kTileVectors; ++v) best.add(k, v, score[v]);
  }
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

  void add_class(int64_t k, int64_t x, int64_t count, const FloatVec (&score)[kTileVectors]) {
    for (int v = 0; v < kTileVectors; ++v) store(tile + v * kLanes, weight * score[v]);
    float* to = row + k * class_stride + x;
    if (accumulate) {
      for (int64_t i = 0; i < count; ++i) to[i] += tile[i];
    } else {
      for (int64_t i = 0; i < count; ++i) to[i] = tile[i];
    }
  }
};

// Class scores of rows of one grid: the output or, with scores_first, the network input.
class ScoreRows {
 public:
  ScoreRows(const SemanticParams& p, LogitTiles logits)
      : logits_(std::move(logits)),
        classes_(p.probability, p.classes, p.masks.queries, p.masks.count),
        active_(p.masks.count),
        masks_(active_ * kTilePixels, 0.0f) {}

  int64_t width() const { return logits_.width(); }

  // Calls use(x, count, k, scores) for every tile of row y and every class in ascending order, and done(x, count) after
  // the last class of a tile.
  template <class Use, class Done>
  void row(int64_t y, Use&& use, Done&& done) {
    logits_.set_row(y);
    logits_.for_tiles([&](int64_t x, int64_t count, const auto& logits) __attribute__((always_inline)) {
      for (int64_t q = 0; q < active_; ++q) {
        for (int v = 0; v < kTileVectors; ++v)
          store(masks_.data() + q * kTilePixels + v * kLanes, sigmoid(logits(q, v)));
      }
      for (int64_t block = 0; block < classes_.blocks(); ++block) {
        FloatVec sums[kTileClasses][kTileVectors];
        score_tile(classes_.block(block), masks_.data(), active_, sums);
        const int64_t first = block * kTileClasses;
        for (int i = 0; i < kTileClasses && first + i < classes_.classes(); ++i) use(x, count, first + i, sums[i]);
      }
      done(x, count);
    });
  }

 private:
  LogitTiles logits_;
  PackedClasses classes_;
  int64_t active_;
  AlignedVector<float> masks_;  // (active, kTilePixels)
};

Planes output_planes(const SemanticParams& p, int64_t y) {
  return {p.scores + y * p.masks.out_width, p.masks.out_height * p.masks.out_width, p.weight, true};
}

void resized_logits(const SemanticParams& p, int64_t begin, int64_t end) {
  ScoreRows scores(p, output_logits(p.masks));
  for (int64_t y = begin; y < end; ++y) {
    if (p.labels != nullptr) {
      Labels labels{p.labels + y * p.masks.out_width, {}};
      scores.row(
          y, [&](int64_t, int64_t, int64_t k, const auto& score) { labels.add(k, score); },
          [&](int64_t x, int64_t count) { labels.finish(x, count); });
    } else {
      Planes planes = output_planes(p, y);
      scores.row(
          y, [&](int64_t x, int64_t count, int64_t k, const auto& score) { planes.add_class(k, x, count, score); },
          [](int64_t, int64_t) {});
    }
  }
}

void resized_scores(const SemanticParams& p, int64_t begin, int64_t end) {
  ScoreRows scores(p, input_logits(p.masks));
  ResizedPlanes resized(p.masks, p.classes, scores.width());
  for (int64_t y = begin; y < end; ++y) {
    resized.set_row(y, [&](int64_t from, float* to, int64_t pitch) {
      Planes planes{to, pitch, 1.0f, false};
      scores.row(
          from, [&](int64_t x, int64_t count, int64_t k, const auto& score) { planes.add_class(k, x, count, score); },
          [](int64_t, int64_t) {});
    });
    Labels labels{p.labels + y * p.masks.out_width, {}};
    Planes planes = output_planes(p, y);
    resized.for_tiles([&](int64_t x, int64_t count, const auto& value) __attribute__((always_inline)) {
      for (int64_t k = 0; k < p.classes; ++k) {
        FloatVec score[kTileVectors];
        for (int v = 0; v < kTileVectors; ++v) score[v] = value(k, v);
        p.labels != nullptr ? labels.add(k, score) : planes.add_class(k, x, count, score);
      }
      if (p.labels != nullptr) labels.finish(x, count);
    });
  }
}

}  // namespace

void semantic_rows(const SemanticParams& params, int64_t begin, int64_t end) {
  params.scores_first ? resized_scores(params, begin, end) : resized_logits(params, begin, end);
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
