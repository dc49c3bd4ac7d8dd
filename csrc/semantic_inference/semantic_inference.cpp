// CPU kernel of semantic inference: rows of class scores, reduced to labels or added to a map of scores.
#include "semantic_inference/semantic_inference.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "common/math.h"
#include "semantic_inference/label_rows.h"
#include "semantic_inference/score_tile.h"
#include "semantic_inference/tile_classes.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

// Where the scores of a tile go: a row of each class's plane, overwritten or added to.
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

// A query is left out of a tile where its score cannot exceed this. The bounds of what is left out are added up. Where
// they could change a label of the tile, it is done again with all queries. Labels are thus exactly those of the whole
// sum.
constexpr float kNegligible = 5e-4f;

// Class scores of rows of one grid. It is the output or, with scores_first, the network input.
class ScoreRows {
 public:
  ScoreRows(const SemanticParams& p, LogitTiles logits)
      : logits_(std::move(logits)),
        classes_(p.probability, p.classes, p.masks.queries, p.masks.count),
        active_(p.masks.count),
        masks_(active_ * kTilePixels, 0.0f),
        kept_(active_),
        all_(active_),
        limit_(active_),
        most_(active_) {
    for (int64_t q = 0; q < active_; ++q) {
      const float* row = p.probability + p.masks.queries[q] * p.classes;
      const float top = *std::max_element(row, row + p.classes);
      all_[q] = static_cast<int32_t>(q);
      most_[q] = std::min(top, kNegligible);
      // sigmoid(limit) * top = kNegligible
      limit_[q] = top <= kNegligible ? INFINITY : -std::log(top / kNegligible - 1.0f);
    }
  }

  int64_t width() const { return logits_.width(); }

  // Calls use(x, count, k, scores) for every tile of row y and every class in ascending order.
  template <class Use>
  void row(int64_t y, Use&& use) {
    logits_.set_row(y);
    logits_.for_tiles([&](int64_t x, int64_t count, const auto& logits) __attribute__((always_inline)) {
      for_classes(logits, all_.data(), active_, [&](int64_t k, const auto& score) { use(x, count, k, score); });
    });
  }

  // Writes the labels of row y.
  void labels(int64_t y, int64_t* to) {
    logits_.set_row(y);
    logits_.for_tiles([&](int64_t x, int64_t count, const auto& logits) __attribute__((always_inline)) {
      float unknown = 0.0f;
      const int64_t kept = keep(x, unknown);
      BestClass best = best_class(logits, kept_.data(), kept);
      if (kept < active_ && !best.certain(unknown, count)) best = best_class(logits, all_.data(), active_);
      best.store(to + x, count);
    });
  }

 private:
  // Lists the queries that matter in the tile at column x. The others add at most `unknown` to a score.
  int64_t keep(int64_t x, float& unknown) {
    int64_t kept = 0;
    for (int64_t q = 0; q < active_; ++q) {
      const bool negligible = limit_[q] == INFINITY || logits_.upper_bound(q, x) < limit_[q];
      kept_[kept] = static_cast<int32_t>(q);
      kept += negligible ? 0 : 1;
      unknown += negligible ? most_[q] : 0.0f;
    }
    return kept;
  }

  template <class Logits>
  BestClass best_class(const Logits& logits, const int32_t* query, int64_t n) {
    BestClass best;
    for_classes(logits, query, n, [&](int64_t k, const auto& score) { best.add(k, score); });
    return best;
  }

  template <class Logits, class Use>
  inline __attribute__((always_inline)) void for_classes(const Logits& logits, const int32_t* query, int64_t n,
                                                         Use&& use) {
    store_sigmoids(logits, query, n, masks_.data());
    for (int64_t block = 0; block < classes_.blocks(); ++block) {
      FloatVec sums[kTileClasses][kTileVectors];
      score_tile(classes_.block(block), masks_.data(), query, n, sums);
      const int64_t first = block * kTileClasses;
      for (int i = 0; i < kTileClasses && first + i < classes_.classes(); ++i) use(first + i, sums[i]);
    }
  }

  LogitTiles logits_;
  PackedClasses classes_;
  int64_t active_;
  AlignedVector<float> masks_;       // (active, kTilePixels)
  std::vector<int32_t> kept_, all_;  // (active,)
  std::vector<float> limit_, most_;  // (active,) logits below the limit add at most this much
};

Planes output_planes(const SemanticParams& p, int64_t y) {
  return {p.scores + y * p.masks.out_width, p.masks.out_height * p.masks.out_width, p.weight, true};
}

// Labels by fixed-point scores. Returns whether that was possible.
bool fixed_labels(const SemanticParams& p, int64_t begin, int64_t end) {
#if defined(__AVX2__)
  const LogitTiles logits = output_logits(p.masks);
  const FixedClasses classes(p.probability, p.classes, p.masks.queries, p.masks.count);
  if (!LabelRows::serves(logits, classes)) return false;
  LabelRows(logits, classes).rows(begin, end, p.labels);
  return true;
#else
  (void)p, (void)begin, (void)end;
  return false;
#endif
}

void resized_logits(const SemanticParams& p, int64_t begin, int64_t end) {
  if (p.labels != nullptr && fixed_labels(p, begin, end)) return;
  ScoreRows scores(p, output_logits(p.masks));
  for (int64_t y = begin; y < end; ++y) {
    if (p.labels != nullptr) {
      scores.labels(y, p.labels + y * p.masks.out_width);
    } else {
      Planes planes = output_planes(p, y);
      scores.row(y,
                 [&](int64_t x, int64_t count, int64_t k, const auto& score) { planes.add_class(k, x, count, score); });
    }
  }
}

void resized_scores(const SemanticParams& p, int64_t begin, int64_t end) {
  ScoreRows scores(p, input_logits(p.masks));
  ResizedPlanes resized(p.masks, p.classes, scores.width());
  TileClasses classes(p.classes, resized.samples());
  for (int64_t y = begin; y < end; ++y) {
    resized.hold_rows(y, [&](int64_t from, float* to, int64_t pitch) {
      Planes planes{to, pitch, 1.0f, false};
      scores.row(from,
                 [&](int64_t x, int64_t count, int64_t k, const auto& score) { planes.add_class(k, x, count, score); });
      if (p.labels != nullptr) classes.note_row(from, to, pitch);
    });
    classes.choose_rows(resized.tap().lower, resized.tap().upper);
    Planes planes = output_planes(p, y);
    resized.for_tiles([&](int64_t x, int64_t count, const auto& value) __attribute__((always_inline)) {
      // Never inlined, so that the scores behind labels are those that semantic_scores returns.
      const auto scores_of = [&](int64_t k, FloatVec(&score)[kTileVectors]) __attribute__((noinline)) {
        resized.blend_tile(k, x);
        for (int v = 0; v < kTileVectors; ++v) score[v] = value(k, v);
      };
      if (p.labels != nullptr) {
        classes.best_class(x, count, scores_of).store(p.labels + y * p.masks.out_width + x, count);
        return;
      }
      for (int64_t k = 0; k < p.classes; ++k) {
        FloatVec score[kTileVectors];
        scores_of(k, score);
        planes.add_class(k, x, count, score);
      }
    });
  }
}

}  // namespace

void semantic_rows(const SemanticParams& params, int64_t begin, int64_t end) {
  const PlaneResize last = from_input(params.masks);
  const bool resizes = last.rows.in != last.rows.out || last.columns.in != last.columns.out;
  params.scores_first&& resizes ? resized_scores(params, begin, end) : resized_logits(params, begin, end);
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
