// CPU kernel of instance inference. One pass makes a query's mask as bits, and the sums behind its score and box.
#include "instance_inference/instance_inference.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "common/held_rows.h"
#include "common/math.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

// Sigmoids are taken of whole vectors only where a mask can have a pixel.
class MaskRows {
 public:
  explicit MaskRows(const InstanceParams& params)
      : p_(params), logits_(to_output(params.masks), 1, params.masks.width, false), columns_(params.row_bytes) {}

  void block(int64_t query, int64_t block) {
    const int64_t first = block * p_.rows_per_block;
    const int64_t last = std::min(first + p_.rows_per_block, p_.masks.out_height);
    InstancePart part = {};
    part.top = last;
    std::fill(columns_.begin(), columns_.end(), uint8_t{0});
    if (query != query_) logits_.forget();
    query_ = query;
    for (int64_t y = first; y < last; ++y) {
      if (row(y, part)) {
        part.top = std::min(part.top, y);
        part.bottom = y + 1;
      }
    }
    if (part.pixels > 0) columns(part);
    p_.parts[query * p_.blocks + block] = part;
  }

 private:
  // Writes one row of bits; returns whether the mask has a pixel in it.
  bool row(int64_t y, InstancePart& part) {
    logits_.set_row(y, [&](int64_t from, float* to, int64_t) { copy_row(p_.masks, query_, from, to); });
    uint8_t* to = p_.bits + (query_ * p_.masks.out_height + y) * p_.row_bytes;
    std::memset(to, 0, p_.row_bytes);
    FloatVec sum{};
    int64_t added = 0;  // to sum
    int64_t pixels = 0;
    logits_.for_tiles_above(p_.threshold,
                            [&](int64_t x, int64_t count, const auto& logits) __attribute__((always_inline)) {
                              uint64_t word = 0;
                              for (int v = 0; v * kLanes < count; ++v) {
                                const FloatVec logit = logits(v);
                                const int64_t valid = std::min<int64_t>(kLanes, count - v * kLanes);
                                const IntVec exists = lane_numbers() < static_cast<int32_t>(valid);
                                const IntVec inside = (logit > p_.threshold) & exists;
                                const uint64_t bits = true_lanes(inside);
                                if (bits == 0) continue;
                                sum += inside ? sigmoid(logit) : FloatVec{};
                                if (++added == kFloatRun) {
                                  part.probability += sum_lanes(sum);
                                  sum = FloatVec{};
                                  added = 0;
                                }
                                word |= bits << (v * kLanes);
                              }
                              pixels += std::popcount(word);
                              put_bits(to, x, count, word);
                            });
    if (pixels == 0) return false;
    part.probability += sum_lanes(sum);
    part.pixels += pixels;
    for (int64_t i = 0; i < p_.row_bytes; ++i) columns_[i] |= to[i];
    return true;
  }

  // Adds a tile's bits to a row. A tile of 64 pixels begins with a byte; a smaller one may share bytes with others.
  static void put_bits(uint8_t* row, int64_t x, int64_t count, uint64_t word) {
    if (kTilePixels == 64 && count == 64 && std::endian::native == std::endian::little) {
      std::memcpy(row + x / 8, &word, sizeof(word));
      return;
    }
    word <<= x % 8;
    for (int64_t byte = x / 8; word != 0; word >>= 8) row[byte++] |= static_cast<uint8_t>(word);
  }

  // The columns between which the mask lies.
  void columns(InstancePart& part) const {
    int64_t first = 0, last = p_.row_bytes - 1;
    while (columns_[first] == 0) ++first;
    while (columns_[last] == 0) --last;
    part.left = 8 * first + std::countr_zero(columns_[first]);
    part.right = 8 * last + 8 - std::countl_zero(columns_[last]);
  }

  const InstanceParams& p_;
  HeldRows logits_;
  int64_t query_ = -1;            // whose rows are held
  std::vector<uint8_t> columns_;  // the rows of this block, joined by or
};

}  // namespace

void instance_blocks(const InstanceParams& params, int64_t begin, int64_t end) {
  MaskRows rows(params);
  for (int64_t item = begin; item < end; ++item) rows.block(item / params.blocks, item % params.blocks);
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
