// CPU kernel of panoptic inference: the winner of every pixel, and the counts that decide which queries become
// segments.
#include "panoptic_inference/panoptic_inference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "common/held_rows.h"
#include "common/mask_tiles.h"
#include "common/math.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

class Winners {
 public:
  explicit Winners(const PanopticParams& params)
      : p_(params),
        count_(params.masks.count),
        own_(count_, IntVec{}),
        most_((count_ + kLanes - 1) / kLanes * kLanes, 0.0f) {}

  void start_block() { std::fill(own_.begin(), own_.end(), IntVec{}); }

  // Does a tile of output row y from column x on. The values of a mask are a function of its map, `of`. Vector v of the
  // map of query q is value(q, v). The largest of its samples under the tile is bound(q). Most queries are small in
  // most tiles. They neither have a pixel there nor win one. The others are prepared before they are read.
  template <class Function, class Value, class Bound, class Prepare>
  inline __attribute__((always_inline)) void tile(int64_t y, int64_t x, int64_t pixels, const Function& of,
                                                  const Value& value, const Bound& bound, const Prepare& prepare) {
    for (int64_t q = 0; q < count_; ++q) most_[q] = bound(q);
    for (int64_t q = 0; q < count_; q += kLanes) {
      const FloatVec most = of(load<FloatVec>(most_.data() + q));
      store(most_.data() + q, with_rounding(most));
    }
    // What the two queries with the largest bounds score at least, whose turn may come late.
    const auto [one, other] = largest_two();
    prepare(one);
    if (other != one) prepare(other);
    FloatVec known[2][kTileVectors];  // their masks
    FloatVec lowest = broadcast(INFINITY);
    for (int v = 0; v < kTileVectors; ++v) {
      known[0][v] = of(value(one, v));
      known[1][v] = of(value(other, v));
      const FloatVec score = known[0][v] * p_.score[one], another = known[1][v] * p_.score[other];
      const FloatVec larger = another > score ? another : score;
      lowest = larger < lowest ? larger : lowest;
    }
    const float sure = -max_lanes(-lowest);
    float least = -INFINITY;                                     // of the best scores so far
    const IntVec unpainted = IntVec{} - (p_.paint_own ? 1 : 0);  // every bit that a pixel without its winner flips
    FloatVec best[kTileVectors];
    IntVec winner[kTileVectors], exists[kTileVectors];
    for (int v = 0; v < kTileVectors; ++v) {
      best[v] = broadcast(-INFINITY);
      winner[v] = unpainted;  // the first query, which does not have a pixel where it is not better than nothing
      exists[v] = lane_numbers() + v * kLanes < static_cast<int32_t>(pixels);
    }
    for (int64_t q = 0; q < count_; ++q) {
      const float most = most_[q] * p_.score[q];
      // Not "if small, leave it out": a value that is not a number is no bound.
      if ((most <= least || most < sure) && (p_.weighted_area ? most : most_[q]) < p_.mask_threshold) continue;
      FloatVec masks[kTileVectors];
      if (q == one || q == other) {
        for (int v = 0; v < kTileVectors; ++v) masks[v] = known[q == one ? 0 : 1][v];
      } else {
        prepare(q);
        for (int v = 0; v < kTileVectors; ++v) masks[v] = of(value(q, v));
      }
      const FloatVec score = broadcast(p_.score[q]);
      IntVec own = own_[q];
      for (int v = 0; v < kTileVectors; ++v) {
        const FloatVec mask = masks[v];
        const FloatVec weighted = mask * score;
        const IntVec inside = (p_.weighted_area ? weighted : mask) >= p_.mask_threshold;
        own -= inside & exists[v];  // true is -1
        const IntVec better = weighted > best[v];
        best[v] = better ? weighted : best[v];
        const IntVec query = (IntVec{} + static_cast<int32_t>(q)) ^ (~inside & unpainted);
        winner[v] = better ? query : winner[v];
      }
      own_[q] = own;
      FloatVec lower = best[0];
      for (int v = 1; v < kTileVectors; ++v) lower = best[v] < lower ? best[v] : lower;
      least = -max_lanes(-lower);
    }
    int32_t* to = p_.winner + y * p_.masks.out_width + x;
    if (pixels == kTilePixels) {
      std::memcpy(to, winner, sizeof(winner));
    } else {
      int32_t some[kTilePixels];
      std::memcpy(some, winner, sizeof(winner));
      std::copy(some, some + pixels, to);
    }
  }

  void finish_block(int64_t block, int64_t first_row, int64_t last_row) {
    int64_t* own = p_.own + block * count_;
    for (int64_t q = 0; q < count_; ++q) {
      own[q] = 0;
      for (int lane = 0; lane < kLanes; ++lane) own[q] += own_[q][lane];
    }
    int64_t* won = p_.won + block * count_;
    std::fill(won, won + count_, int64_t{0});
    const int64_t width = p_.masks.out_width;
    const int32_t *from = p_.winner + first_row * width, *end = p_.winner + last_row * width;
    if (!p_.paint_own) {
      for_equal_pixels(from, end, [&](int32_t winner, int64_t pixels) { won[winner] += pixels; });
      return;
    }
    int64_t* painted = p_.painted + block * count_;
    std::fill(painted, painted + count_, int64_t{0});
    for_equal_pixels(from, end, [&](int32_t winner, int64_t pixels) {
      winner < 0 ? won[~winner] += pixels : painted[winner] += pixels;
    });
    for (int64_t q = 0; q < count_; ++q) won[q] += painted[q];
  }

 private:
  // Calls body(winner, pixels) for pixels that lie side by side and have one winner: some vectors, or a single pixel.
  template <class Body>
  static void for_equal_pixels(const int32_t* from, const int32_t* end, Body&& body) {
    constexpr int64_t step = 4 * kLanes;
    for (; from + step <= end; from += step) {
      const IntVec first = IntVec{} + from[0];
      IntVec different{};
      for (int64_t i = 0; i < step; i += kLanes) different |= load<IntVec>(from + i) != first;
      if (true_lanes(different) == 0) {
        body(from[0], step);
      } else {
        for (int64_t i = 0; i < step; ++i) body(from[i], 1);
      }
    }
    for (; from < end; ++from) body(*from, 1);
  }

  std::pair<int64_t, int64_t> largest_two() const {
    int64_t query[2] = {0, 0};
    float bound[2] = {-INFINITY, -INFINITY};
    for (int64_t q = 0; q < count_; ++q) {
      const float most = most_[q] * p_.score[q];
      if (!(most > bound[1])) continue;
      const int place = most > bound[0] ? 0 : 1;
      query[1] = place == 0 ? query[0] : q;
      bound[1] = place == 0 ? bound[0] : most;
      query[0] = place == 0 ? q : query[0];
      bound[0] = place == 0 ? most : bound[0];
    }
    return {query[0], query[1]};
  }

  const PanopticParams& p_;
  int64_t count_;
  AlignedVector<IntVec> own_;  // (count,) pixels of this block, by lane
  AlignedVector<float> most_;  // (count,) bounds on the values in a tile
};

// Rows of mask probabilities at the network input, resized to the output.
class ResizedProbabilities {
 public:
  explicit ResizedProbabilities(const PanopticParams& p)
      : count_(p.masks.count), logits_(input_logits(p.masks)), resized_(p.masks, count_, logits_.width()) {}

  void set_row(int64_t y) {
    resized_.set_row(y, [&](int64_t from, float* to, int64_t pitch) {
      logits_.set_row(from);
      logits_.for_tiles([&](int64_t x, int64_t pixels, const auto& logits) {
        float tile[kTilePixels];
        for (int64_t q = 0; q < count_; ++q) {
          for (int v = 0; v < kTileVectors; ++v) store(tile + v * kLanes, sigmoid(logits(q, v)));
          std::copy(tile, tile + pixels, to + q * pitch + x);
        }
      });
    });
  }

  const ResizedPlanes& tiles() const { return resized_; }

 private:
  int64_t count_;
  LogitTiles logits_;
  ResizedPlanes resized_;
};

}  // namespace

void panoptic_blocks(const PanopticParams& params, int64_t begin, int64_t end) {
  Winners winners(params);
  std::optional<HeldRows> logits;
  std::optional<ResizedProbabilities> probabilities;
  if (params.probabilities_first) {
    probabilities.emplace(params);
  } else {
    logits.emplace(to_output(params.masks), params.masks.count, params.masks.width, false);
  }
  for (int64_t block = begin; block < end; ++block) {
    const int64_t first = block * params.rows_per_block;
    const int64_t last = std::min(first + params.rows_per_block, params.masks.out_height);
    winners.start_block();
    for (int64_t y = first; y < last; ++y) {
      if (probabilities) {
        probabilities->set_row(y);
        const ResizedPlanes& planes = probabilities->tiles();
        planes.for_tiles([&](int64_t x, int64_t pixels, const auto& value) {
          const auto bound = [&](int64_t q) { return planes.upper_bound(q, x); };
          winners.tile(y, x, pixels, [](FloatVec mask) { return mask; }, value, bound, [](int64_t) {});
        });
      } else {
        logits->set_row(y, [&](int64_t from, float* to, int64_t pitch) {
          for (int64_t q = 0; q < params.masks.count; ++q) copy_row(params.masks, q, from, to + q * pitch);
        });
        logits->for_tiles([&](int64_t x, int64_t pixels, const auto& value) {
          const int64_t tile = x / kTilePixels;
          const float* bounds = logits->bounds(tile);
          const auto bound = [&](int64_t q) { return bounds[q]; };
          const auto prepare = [&](int64_t q) { logits->blend_tile(q, tile); };
          if (params.of_logits) {
            winners.tile(y, x, pixels, [](FloatVec mask) { return mask; }, value, bound, prepare);
          } else {
            winners.tile(y, x, pixels, [](FloatVec mask) { return sigmoid(mask); }, value, bound, prepare);
          }
        });
      }
    }
    winners.finish_block(block, first, last);
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
