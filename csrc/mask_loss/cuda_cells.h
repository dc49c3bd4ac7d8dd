// How mask_loss splits a row on a GPU: cells, groups of pixels, chunks of columns. Host and device.
//
// A cell is a sample of the logits with the target pixels nearest to it. Its pixels lie between the samples before and
// after it. The binding makes sure that 2 * in_size * out_size is below 2^31. A 64-bit division would be a call.
#pragma once

#include <algorithm>

#include "common/math.h"

namespace maskformer_ext {

// A thread takes a group: so many neighbouring target pixels of one cell, or fewer.
inline constexpr int kMaskLossGroup = 4;

// The first pixel of a cell.
MASKFORMER_EXT_HD int cell_begin(int cell, int in_size, int out_size) {
  const auto in = static_cast<unsigned>(in_size), end = static_cast<unsigned>(2 * cell * out_size);
  return end <= in ? 0 : static_cast<int>((end + in - 1) / (2 * in));  // (2 x + 1) * in_size must reach `end`
}

// The first output whose lower sample is `sample` or a later one, or the end where there is none. Resizing is bilinear,
// with half-pixel centres, and clamped at both ends.
MASKFORMER_EXT_HD int first_with_lower(int sample, int in_size, int out_size) {
  if (sample <= 0) return 0;
  if (sample >= in_size) return out_size;
  const auto least = static_cast<unsigned>((2 * sample + 1) * out_size);  // (2 x + 1) * in_size must reach it
  const auto x = static_cast<int>((least + static_cast<unsigned>(in_size) - 1) / static_cast<unsigned>(in_size) / 2);
  return x < out_size ? x : out_size;
}

// A block takes a chunk of columns. It evaluates the cells of these columns and their neighbours.
struct MaskLossChunks {
  static constexpr int kMostThreads = 256;
  int count, columns;
  int cell_groups;  // groups per cell
  int threads;      // of a block, a multiple of 32; where there are more groups, they take turns
};

// As few chunks as take turns nowhere, because the cells between two chunks are evaluated twice.
inline MaskLossChunks mask_loss_chunks(int width, int target_width) {
  constexpr int kMost = MaskLossChunks::kMostThreads, kLeastColumns = 8;
  const auto ratio = [](int a, int b) { return (a + b - 1) / b; };
  MaskLossChunks chunks = {1, width, ratio(ratio(target_width, width), kMaskLossGroup), kMost};
  if (int64_t{width} * chunks.cell_groups > kMost) {
    chunks.count = ratio(width, std::max(kLeastColumns, kMost / chunks.cell_groups - 2));
    chunks.columns = ratio(width, chunks.count);
    chunks.count = ratio(width, chunks.columns);
  }
  const int64_t cells = chunks.count == 1 ? width : std::min(chunks.columns + 2, width);
  chunks.threads = static_cast<int>(std::min<int64_t>(kMost, (cells * chunks.cell_groups + 31) / 32 * 32));
  return chunks;
}

}  // namespace maskformer_ext
