// CPU kernels of point_matching_cost_from_embeddings: features to lines, tiles of points to sums, sums to costs.
#include "point_matching_cost_from_embeddings/point_matching_cost_from_embeddings.h"

#include "common/transpose.h"
#include "point_matching_cost/point_sums.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

// A block of sums stays in registers: points times vectors of queries.
constexpr int kBlockVecs = 3;
#if defined(__AVX512F__)
constexpr int kBlockPoints = 8;
#else
constexpr int kBlockPoints = 4;
#endif
static_assert(kPointTile % kBlockPoints == 0);

// How many vectors the next block of queries has: three, but never one behind a three.
constexpr int64_t block_vecs(int64_t left) { return left == 4 ? 2 : std::min<int64_t>(left, kBlockVecs); }

// Computes kBlockPoints x kVecs vectors of logits. `embed` is (channels, kVecs * kLanes).
template <int kVecs>
void multiply_block(const float* __restrict features, int64_t line_stride, const float* __restrict embed,
                    int64_t channels, float* __restrict logits, int64_t logits_stride) {
  FloatVec sum[kBlockPoints][kVecs]{};
  for (int64_t c = 0; c < channels; ++c) {
    FloatVec query[kVecs];
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) query[v] = load<FloatVec>(embed + (c * kVecs + v) * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kBlockPoints; ++i) {
      const FloatVec feature = broadcast(features[i * line_stride + c]);
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) sum[i][v] += feature * query[v];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kBlockPoints; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) store(logits + i * logits_stride + v * kLanes, sum[i][v]);
  }
}

void multiply_tile(const PointEmbeddingsParams& p, const float* features, const float* packed, float* logits) {
  const int64_t vecs = p.padded() / kLanes;
  for (int64_t first = 0; first < vecs;) {
    const int64_t block = block_vecs(vecs - first);
    const float* embed = packed + first * kLanes * p.channels;
    for (int64_t i = 0; i < kPointTile; i += kBlockPoints) {
      const float* from = features + i * p.line_stride;
      float* to = logits + i * p.padded() + first * kLanes;
      if (block == 3) {
        multiply_block<3>(from, p.line_stride, embed, p.channels, to, p.padded());
      } else if (block == 2) {
        multiply_block<2>(from, p.line_stride, embed, p.channels, to, p.padded());
      } else {
        multiply_block<1>(from, p.line_stride, embed, p.channels, to, p.padded());
      }
    }
    first += block;
  }
}

void sample_lines(const PointEmbeddingsParams& p, const PointTargets& targets, int64_t tile, float* features) {
  for (int64_t i = 0; i < kPointTile; ++i) {
    const int32_t* tap = targets.tap + 4 * (tile * kPointTile + i);
    const float* weight = targets.tap_weight + 4 * (tile * kPointTile + i);
    const float* line[4];
    for (int t = 0; t < 4; ++t) line[t] = p.lines + tap[t] * p.line_stride;
    float* __restrict to = features + i * p.line_stride;
#pragma omp simd
    for (int64_t c = 0; c < p.line_stride; ++c)
      to[c] = weight[0] * line[0][c] + weight[1] * line[1][c] + weight[2] * line[2][c] + weight[3] * line[3][c];
  }
}

// Widens channels that lie side by side.
template <class T>
void copy_line(const T* __restrict from, int64_t channels, float* __restrict to) {
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) to[c] = to_float(from[c]);
}

template <class T>
void lay_lines(const FeatureLinesParams& p, int64_t begin, int64_t end) {
  const T* features = static_cast<const T*>(p.features);
  int64_t c = 0;
  if (p.channel_stride == 1) {
    for (int64_t i = begin; i < end; ++i) copy_line(features + i * p.pixel_stride, p.channels, p.lines + i * p.stride);
    c = p.channels;
  } else if (p.pixel_stride == 1) {
    for (; c + kLanes <= p.channels; c += kLanes)
      transpose_rows(features + c * p.channel_stride + begin, p.channel_stride, end - begin,
                     p.lines + begin * p.stride + c, p.stride);
  }
  for (int64_t i = begin; i < end; ++i) {
    float* line = p.lines + i * p.stride;
    for (int64_t k = c; k < p.channels; ++k) line[k] = to_float(features[i * p.pixel_stride + k * p.channel_stride]);
    std::fill(line + p.channels, line + p.stride, 0.0f);
  }
}

}  // namespace

void lay_feature_lines(const FeatureLinesParams& params, int64_t begin, int64_t end) {
  constexpr int64_t kBand = 64;  // pixels whose lines stay in the cache while all channels are written
  for_float_type(params.dtype, [&](auto type) {
    for (int64_t i = begin; i < end; i += kBand) lay_lines<decltype(type)>(params, i, std::min(i + kBand, end));
  });
  if (end == params.pixels) std::fill_n(params.lines + params.pixels * params.stride, params.stride, 0.0f);
}

void pack_queries(const PointEmbeddingsParams& params, int64_t begin, int64_t end) {
  const int64_t channels = params.channels, vecs = params.padded() / kLanes, queries = params.cost.queries;
  for (int64_t layer = begin; layer < end; ++layer) {
    float* packed = params.packed + layer * channels * params.padded();
    const int64_t row = ((params.first_layer + layer) * params.cost.images + params.image) * queries;
    for_float_type(params.embed_dtype, [&](auto type) {
      const auto* embed = static_cast<const decltype(type)*>(params.embed) + row * channels;
      for (int64_t first = 0; first < vecs;) {
        const int64_t width = block_vecs(vecs - first) * kLanes;
        float* block = packed + first * kLanes * channels;
        for (int64_t i = 0; i < width; ++i) {
          const int64_t query = std::min(first * kLanes + i, queries - 1);  // nobody reads the results of padding
          for (int64_t c = 0; c < channels; ++c) block[c * width + i] = to_float(embed[query * channels + c]);
        }
        first += width / kLanes;
      }
    });
  }
}

void point_embeddings_sums(const PointEmbeddingsParams& params, float* features, float* logits, int64_t begin,
                           int64_t end) {
  const int64_t padded = params.padded(), num_segments = params.cost.num_segments[params.image];
  for (int64_t item = begin; item < end; ++item) {
    const int64_t layer = item / params.chunks, first = item % params.chunks * kChunkTiles;
    const PointTargets& targets = params.targets[layer];
    const PointSums sums = {.sums = params.sums + item * params.sums_rows * padded, .stride = padded};
    std::fill_n(sums.sums, params.sums_rows * padded, 0.0);
    uint8_t* wrong = params.wrong + item * padded;
    std::fill_n(wrong, padded, uint8_t{0});
    const float* packed = params.packed + layer * params.channels * padded;
    for (int64_t tile = first; tile < std::min(first + kChunkTiles, targets.tiles()); ++tile) {
      sample_lines(params, targets, tile, features);
      multiply_tile(params, features, packed, logits);
      for (int64_t lane = 0; lane < padded; lane += kLanes) {
        IntVec of_lanes{};
        add_tile(targets, num_segments, tile, logits, padded, sums, lane, of_lanes);
        for (int i = 0; i < kLanes; ++i) wrong[lane + i] |= of_lanes[i] != 0 ? 1 : 0;
      }
    }
  }
}

void point_embeddings_costs(const PointEmbeddingsParams& params, float* probability, int64_t begin, int64_t end) {
  const int64_t padded = params.padded(), size = params.sums_rows * padded;
  for (int64_t layer = begin; layer < end; ++layer) {
    double* __restrict sums = params.sums + layer * params.chunks * size;
    uint8_t* wrong = params.wrong + layer * params.chunks * padded;
    for (int64_t chunk = 1; chunk < params.chunks; ++chunk) {
      const double* __restrict more = sums + chunk * size;
      for (int64_t i = 0; i < size; ++i) sums[i] += more[i];
      for (int64_t i = 0; i < padded; ++i) wrong[i] |= wrong[chunk * padded + i];
    }
    const int64_t row = ((params.first_layer + layer) * params.cost.images + params.image) * params.cost.queries;
    for (int64_t q = 0; q < params.cost.queries; ++q)
      write_point_costs(params.cost, params.targets[layer], row + q, wrong[q] == 0, sums + q, padded, probability);
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
