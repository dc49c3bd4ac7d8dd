#include "counting/run_lengths.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

constexpr int64_t kStrip = 64;  // columns of a word of bits

// Bits of pixels [64 * strip, 64 * strip + 64) of a row.
uint64_t word_of(const uint8_t* row, int64_t row_bytes, int64_t strip) {
  uint64_t word = 0;
  const int64_t bytes = std::min<int64_t>(8, row_bytes - 8 * strip);
  if (std::endian::native == std::endian::little) {
    bytes == 8 ? std::memcpy(&word, row + 8 * strip, 8) : std::memcpy(&word, row + 8 * strip, bytes);
  } else {
    for (int64_t i = 0; i < bytes; ++i) word |= static_cast<uint64_t>(row[8 * strip + i]) << (8 * i);
  }
  return word;
}

// Run lengths as COCO's text: the difference to the run before last, five bits a character, the lowest first.
class RunText {
 public:
  explicit RunText(std::string& text) : text_(text) {}

  void add(int64_t run) {
    int64_t value = runs_ > 2 ? run - before_[0] : run;
    before_[0] = before_[1];
    before_[1] = run;
    ++runs_;
    for (bool more = true; more;) {
      int64_t low = value & 0x1f;
      value >>= 5;
      more = (low & 0x10) != 0 ? value != -1 : value != 0;
      text_.push_back(static_cast<char>((more ? low | 0x20 : low) + 48));
    }
  }

 private:
  std::string& text_;
  int64_t before_[2] = {0, 0};
  int64_t runs_ = 0;
};

class ColumnRuns {
 public:
  ColumnRuns(int64_t height, int64_t width) : height_(height), row_bytes_((width + 7) / 8), total_(height * width) {}

  void write(const uint8_t* bits, const int64_t* box, std::string& to) {
    bounds_.clear();
    for (int64_t strip = box[0] / kStrip; strip * kStrip < box[2]; ++strip) add_strip(bits, strip, box[1], box[3]);
    RunText text(to);
    int64_t position = 0;
    for (const int64_t bound : bounds_) {
      text.add(bound - position);
      position = bound;
    }
    if (position < total_) text.add(total_ - position);
  }

 private:
  // Adds where the runs of 64 columns begin and end. The changes from row to row come sorted by their row; they are
  // counted per column and placed column by column. A run ends with its column; touching runs are joined.
  void add_strip(const uint8_t* bits, int64_t strip, int64_t top, int64_t bottom) {
    changes_.clear();
    int64_t counts[kStrip + 1] = {};
    uint64_t above = 0;
    for (int64_t y = top; y <= bottom; ++y) {
      const uint64_t word = y < bottom ? word_of(bits + y * row_bytes_, row_bytes_, strip) : 0;
      for (uint64_t changed = word ^ above; changed != 0; changed &= changed - 1) {
        const int column = std::countr_zero(changed);
        ++counts[column + 1];
        changes_.push_back({column, y});
      }
      above = word;
    }
    for (int64_t column = 0; column < kStrip; ++column) counts[column + 1] += counts[column];
    placed_.resize(changes_.size());
    for (const Change& change : changes_) {
      placed_[counts[change.column]++] = (strip * kStrip + change.column) * height_ + change.row;
    }
    for (size_t i = 0; i < placed_.size(); i += 2) {
      if (!bounds_.empty() && bounds_.back() == placed_[i]) {
        bounds_.back() = placed_[i + 1];
      } else {
        bounds_.insert(bounds_.end(), {placed_[i], placed_[i + 1]});
      }
    }
  }

  struct Change {
    int64_t column, row;
  };

  int64_t height_, row_bytes_, total_;
  std::vector<Change> changes_;           // of a strip, by rows
  std::vector<int64_t> placed_, bounds_;  // positions down the columns: of a strip, and of the mask
};

// The runs of a map, collected per id.
class RowRuns {
 public:
  void add_rows(const int32_t* map, int64_t width, const int64_t* rows, int64_t out_height, const int64_t* columns,
                int64_t out_width) {
    std::vector<int64_t> begin, source;  // of each column that is looked at: its first output
    for (int64_t x = 0; x < out_width; ++x) {
      if (x > 0 && columns[x] == columns[x - 1]) continue;
      begin.push_back(x);
      source.push_back(columns[x]);
    }
    const auto looked = static_cast<int64_t>(begin.size());
    std::vector<int32_t> row(looked);
    for (int64_t y = 0; y < out_height; ++y) {
      if (y == 0 || rows[y] != rows[y - 1]) {
        const int32_t* from = map + rows[y] * width;
        for (int64_t i = 0; i < looked; ++i) row[i] = from[source[i]];
        find_runs(row, begin);
      }
      for (const Run& run : runs_) start(run.group, y * out_width + run.begin);
    }
    start(-1, out_height * out_width);
  }

  int64_t groups() const { return static_cast<int64_t>(values_.size()); }

  int64_t numbers() const {
    int64_t numbers = 0;
    for (const auto& list : lists_) numbers += static_cast<int64_t>(list.size());
    return numbers;
  }

  void copy(int32_t* values, int64_t* counts, int64_t* numbers) const {
    std::copy(values_.begin(), values_.end(), values);
    for (const auto& list : lists_) {
      *counts++ = static_cast<int64_t>(list.size());
      numbers = std::copy(list.begin(), list.end(), numbers);
    }
  }

 private:
  struct Run {
    int64_t begin, group;
  };

  void find_runs(const std::vector<int32_t>& row, const std::vector<int64_t>& begin) {
    constexpr int64_t step = 16;  // pixels that are compared at a time
    runs_.clear();
    const auto count = static_cast<int64_t>(row.size());
    for (int64_t first = 0; first < count; first += step) {
      const int64_t last = std::min(first + step, count);
      if (first > 0 && last == first + step) {
        int32_t different = 0;
        for (int64_t i = 0; i < step; ++i) different |= row[first + i] ^ row[first + i - 1];
        if (different == 0) continue;
      }
      for (int64_t i = first; i < last; ++i) {
        if (i == 0 || row[i] != row[i - 1]) runs_.push_back({begin[i], group_of(row[i])});
      }
    }
  }

  int64_t group_of(int32_t value) {
    const auto [found, added] = group_.try_emplace(value, groups());
    if (added) {
      values_.push_back(value);
      lists_.emplace_back();
    }
    return found->second;
  }

  // Ends the run that is open where another id begins.
  void start(int64_t group, int64_t position) {
    if (group == open_) return;
    if (open_ >= 0) lists_[open_].insert(lists_[open_].end(), {begun_ + 1, position - begun_});
    open_ = group;
    begun_ = position;
  }

  std::unordered_map<int32_t, int64_t> group_;
  std::vector<int32_t> values_;              // of the groups, in the order in which they occur
  std::vector<std::vector<int64_t>> lists_;  // of the groups
  std::vector<Run> runs_;                    // of the row
  int64_t open_ = -1, begun_ = 0;
};

bool has_pixel(const uint8_t* bits, int64_t height, int64_t row_bytes, const uint8_t* rows, const uint8_t* columns) {
  for (int64_t y = 0; y < height; ++y) {
    if (rows[y] == 0) continue;
    for (int64_t i = 0; i < row_bytes; ++i) {
      if ((bits[y * row_bytes + i] & columns[i]) != 0) return true;
    }
  }
  return false;
}

}  // namespace

void* maskformer_ext_mask_texts(const uint8_t* bits, const int64_t* boxes, int64_t count, int64_t height, int64_t width,
                                int64_t* offsets) {
  std::string* text = nullptr;
  try {
    text = new std::string;
    ColumnRuns runs(height, width);
    offsets[0] = 0;
    for (int64_t mask = 0; mask < count; ++mask) {
      runs.write(bits + mask * height * ((width + 7) / 8), boxes + 4 * mask, *text);
      offsets[mask + 1] = static_cast<int64_t>(text->size());
    }
  } catch (const std::bad_alloc&) {  // which must not leave a C function
    delete text;
    return nullptr;
  }
  return text;
}

void maskformer_ext_mask_texts_take(void* texts, char* to) {
  auto* text = static_cast<std::string*>(texts);
  std::copy(text->begin(), text->end(), to);
  delete text;
}

void maskformer_ext_paint_masks(const uint8_t* bits, const int64_t* order, int64_t count, int64_t height, int64_t width,
                                const uint8_t* rows, const uint8_t* columns, int32_t* map, uint8_t* kept) {
  const int64_t row_bytes = (width + 7) / 8;
  std::fill(map, map + height * width, -1);
  int32_t place = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t* mask = bits + order[i] * height * row_bytes;
    kept[i] = has_pixel(mask, height, row_bytes, rows, columns) ? 1 : 0;
    if (kept[i] == 0) continue;
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t byte = 0; byte < row_bytes; ++byte) {
        const uint8_t inside = mask[y * row_bytes + byte];
        int32_t* to = map + y * width + 8 * byte;
        if (inside == 0xff) {
          std::fill(to, to + 8, place);
        } else {
          for (unsigned left = inside; left != 0; left &= left - 1) to[std::countr_zero(left)] = place;
        }
      }
    }
    ++place;
  }
}

void* maskformer_ext_row_runs(const int32_t* map, int64_t width, const int64_t* rows, int64_t out_height,
                              const int64_t* columns, int64_t out_width, int64_t* values, int64_t* numbers) {
  RowRuns* runs = nullptr;
  try {
    runs = new RowRuns;
    runs->add_rows(map, width, rows, out_height, columns, out_width);
  } catch (const std::bad_alloc&) {  // which must not leave a C function
    delete runs;
    return nullptr;
  }
  *values = runs->groups();
  *numbers = runs->numbers();
  return runs;
}

void maskformer_ext_row_runs_take(void* runs, int32_t* values, int64_t* counts, int64_t* numbers) {
  auto* found = static_cast<RowRuns*>(runs);
  found->copy(values, counts, numbers);
  delete found;
}
