// Reads target rows of every kind into one form: a flag byte per pixel, grouped by cell, and values where they are
// soft.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "common/dtype.h"
#include "mask_loss/mask_loss.h"
#include "mask_loss/tile.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

// The sum of the bytes, each at most 2, without widening them one by one.
inline int64_t sum_bytes(const uint8_t* bytes, int64_t count) {
  int64_t total = 0;
  constexpr int64_t chunk = 64 * 8;  // no byte of the sum of 64 words can pass 128
  for (; count > 0; bytes += chunk, count -= chunk) {
    uint64_t words[chunk / 8] = {};
    std::memcpy(words, bytes, count < chunk ? count : chunk);
    uint64_t sum = 0;
    for (uint64_t word : words) sum += word;
    constexpr uint64_t even = 0x00ff00ff00ff00ffu;
    total += (((sum & even) + ((sum >> 8) & even)) * 0x0001000100010001u) >> 48;
  }
  return total;
}

class TargetRows {
 public:
  explicit TargetRows(const MaskLossParams& params)
      : p_(params),
        columns_(*params.columns),
        padding_((columns_.slots + 127) / 64 * 64),
        groups_((columns_.slots + 3) / 4),
        // Cells that do not exist read the bytes behind the row.
        bytes_(padding_ * 2 + columns_.slots * columns_.cells + params.target_width, kLeftOut) {
    pixels_ = bytes_.data() + padding_;
    if (columns_.stride != 4) flags_.resize(groups_ * columns_.cells);
    if (p_.target_kind == TargetKind::values) {
      row_values_.resize(p_.target_width);
      values_.resize(columns_.slots * columns_.cells);
    }
    if (columns_.stride == 0) list_slots();
  }

  // Reads row y of a mask's target.
  void read(int64_t mask, int64_t y) {
    const int64_t width = p_.target_width;
    const int64_t offset = p_.plane[mask] * p_.target_plane_stride + y * p_.target_row_stride;
    left_out_ = 0;
    bool soft = false;
    switch (p_.target_kind) {
      case TargetKind::flags: {
        const uint8_t* row = static_cast<const uint8_t*>(p_.targets) + offset;
        uint8_t* __restrict pixels = pixels_;
        for (int64_t x = 0; x < width; ++x) pixels[x] = row[x] != 0;
        break;
      }
      case TargetKind::map_i16:
        read_map(static_cast<const int16_t*>(p_.targets) + offset, p_.segment[mask]);
        break;
      case TargetKind::map_i32:
        read_map(static_cast<const int32_t*>(p_.targets) + offset, p_.segment[mask]);
        break;
      case TargetKind::values:
        for_float_type(p_.target_dtype,
                       [&](auto type) { soft = read_values(static_cast<const decltype(type)*>(p_.targets) + offset); });
        break;
    }
    if (p_.void_pixels != nullptr) {
      const uint8_t* row = p_.void_pixels + (p_.void_plane[mask] * p_.target_height + y) * width;
      for (int64_t x = 0; x < width; ++x) pixels_[x] = row[x] != 0 ? static_cast<uint8_t>(kLeftOut) : pixels_[x];
    }
    const int64_t byte_sum = sum_bytes(pixels_, width);
    if (p_.void_pixels != nullptr || p_.ignore_void) {
      int64_t flagged = 0;
      for (int64_t x = 0; x < width; ++x) flagged += pixels_[x] >> 1;
      left_out_ = flagged;
    }
    inside_ = static_cast<double>(byte_sum - 2 * left_out_);
    kind_ = soft ? RowKind::values : (inside_ > 0 ? RowKind::flags : RowKind::outside);
    group_by_cell();
    if (soft) {
      inside_ = 0;
      for (int64_t x = 0; x < width; ++x) inside_ += pixels_[x] & kLeftOut ? 0.0 : static_cast<double>(row_values_[x]);
      for (int64_t slot = 0; slot < columns_.slots; ++slot) {
        for (int64_t i = 0; i < columns_.cells; ++i) {
          const int64_t x = columns_.start[i] + slot;
          values_[slot * columns_.cells + i] = x >= columns_.begin[i] && x < columns_.end[i] ? row_values_[x] : 0.0f;
        }
      }
    }
  }

  RowKind kind() const { return kind_; }
  double inside() const { return inside_; }                              // sum of the targets that count
  int64_t pixels() const { return p_.target_width - left_out_; }         // how many count
  bool masked() const { return left_out_ > 0 || columns_.stride == 0; }  // whether cells have slots that do not count
  const uint32_t* flags() const { return flags_.empty() ? reinterpret_cast<const uint32_t*>(pixels_) : flags_.data(); }
  const float* values() const { return values_.data(); }

 private:
  template <class Id>
  void read_map(const Id* row, int64_t segment) {
    const Id id = static_cast<Id>(segment);
    const uint8_t known = id == segment;  // a narrow map cannot name every segment
    const int64_t width = p_.target_width;
    uint8_t* __restrict pixels = pixels_;
    if (p_.ignore_void) {
      for (int64_t x = 0; x < width; ++x) pixels[x] = ((row[x] == id) & known) | ((row[x] < 0) << 1);
    } else {
      for (int64_t x = 0; x < width; ++x) pixels[x] = (row[x] == id) & known;
    }
  }

  // Returns whether any value is neither 0 nor 1.
  template <class T>
  bool read_values(const T* row) {
    const int64_t width = p_.target_width;
    uint8_t* __restrict pixels = pixels_;
    float* __restrict values = row_values_.data();
    uint8_t soft = 0;
    for (int64_t x = 0; x < width; ++x) {
      const float value = to_float(row[x]);
      values[x] = value;
      pixels[x] = value == 1.0f;
      soft |= (value != 0.0f) & (value != 1.0f);
    }
    return soft != 0;
  }

  // Lists, where slots are ragged, the bytes of a cell's flags that are its own pixels.
  void list_slots() {
    own_.resize(groups_ * columns_.cells);
    for (int64_t i = 0; i < columns_.cells; ++i) {
      for (int64_t slot = 0; slot < groups_ * 4; ++slot) {
        const int64_t x = columns_.start[i] + slot;
        const bool own = slot < columns_.slots && x >= columns_.begin[i] && x < columns_.end[i];
        own_[(slot / 4) * columns_.cells + i] |= own ? 0xffu << (8 * (slot % 4)) : 0u;
      }
    }
  }

  void group_by_cell() {
    const int64_t stride = columns_.stride, cells = columns_.cells;
    if (stride == 4) return;  // the bytes are in this order already
    if (stride == 1) {
      for (int64_t i = 0; i < cells; ++i) flags_[i] = pixels_[i];
    } else if (stride == 2) {
      for (int64_t i = 0; i < cells; ++i) flags_[i] = pixels_[2 * i] | (pixels_[2 * i + 1] << 8);
    } else {
      for (int64_t group = 0; group < groups_; ++group) {
        for (int64_t i = 0; i < cells; ++i) {
          uint32_t four;
          std::memcpy(&four, pixels_ + columns_.start[i] + 4 * group, 4);
          flags_[group * cells + i] = four;
        }
      }
      if (stride == 0) {
        for (int64_t i = 0; i < groups_ * cells; ++i) flags_[i] = (flags_[i] & own_[i]) | (0x02020202u & ~own_[i]);
      }
    }
  }

  const MaskLossParams& p_;
  const ResizeCells& columns_;
  int64_t padding_, groups_;
  std::vector<uint8_t> bytes_;
  uint8_t* pixels_;  // flags in the order of the row
  std::vector<uint32_t> flags_, own_;
  std::vector<float> row_values_, values_;
  RowKind kind_ = RowKind::outside;
  double inside_ = 0;
  int64_t left_out_ = 0;
};

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
