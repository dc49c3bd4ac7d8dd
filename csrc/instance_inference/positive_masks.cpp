// CPU kernel: masks of positive logits, packed and summed in one pass over the logits as they are stored.
#include "instance_inference/positive_masks.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "common/math.h"
#include "common/vec.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

constexpr int64_t kWord = 64;  // pixels at a time: a word of bits

// What a mask holds so far. A float sum is emptied into the double one before rounding would show.
struct MaskSum {
  FloatVec sum{};
  IntVec unordered{};  // lanes that met a NaN
  int64_t added = 0;   // vectors in `sum`
  double whole = 0.0;
  int64_t pixels = 0;

  // Adds 64 logits; returns which are positive. Most words have none, and take no sigmoid.
  inline __attribute__((always_inline)) uint64_t add(const float* logits) {
    uint64_t word = 0;
    for (int v = 0; v * kLanes < kWord; ++v) {
      const FloatVec logit = load<FloatVec>(logits + v * kLanes);
      const IntVec inside = logit > 0.0f;
      unordered |= logit != logit;
      const uint64_t bits = true_lanes(inside);
      if (bits == 0) continue;
      sum += inside ? sigmoid(logit) : FloatVec{};
      if (++added == kFloatRun) empty();
      word |= bits << (v * kLanes);
    }
    pixels += std::popcount(word);
    return word;
  }

  void empty() {
    whole += sum_lanes(sum);
    sum = FloatVec{};
    added = 0;
  }
};

void write_word(uint8_t* to, uint64_t word, int64_t bytes) {
  if (bytes == 8 && std::endian::native == std::endian::little) {
    std::memcpy(to, &word, sizeof(word));
    return;
  }
  for (int64_t i = 0; i < bytes; ++i) to[i] = static_cast<uint8_t>(word >> (8 * i));
}

}  // namespace

void positive_masks(const PositiveParams& p, int64_t begin, int64_t end) {
  const int64_t row_bytes = (p.width + 7) / 8;
  for (int64_t mask = begin; mask < end; ++mask) {
    MaskSum of;
    for (int64_t y = 0; y < p.height; ++y) {
      const float* row = p.logits + p.queries[mask] * p.query_stride + y * p.row_stride;
      uint8_t* to = p.bits + (mask * p.height + y) * row_bytes;
      int64_t x = 0;
      for (; x + kWord <= p.width; x += kWord) write_word(to + x / 8, of.add(row + x), 8);
      if (x == p.width) continue;
      float rest[kWord];
      std::fill(std::copy(row + x, row + p.width, rest), rest + kWord, -1.0f);
      write_word(to + x / 8, of.add(rest), row_bytes - x / 8);
    }
    of.empty();
    p.sums[mask] = true_lanes(of.unordered) != 0 ? static_cast<double>(NAN) : of.whole;
    p.pixels[mask] = of.pixels;
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
