// An image's mask logits and the sizes between them and a result, as plain data.
#pragma once

#include <cstdint>

#include "common/dtype.h"
#include "common/mask_resize.h"

namespace maskformer_ext {

// Mask logits of some queries of an image, and the resizes between them and the result.
struct MaskSource {
  const void* logits;  // (Q, h, w), the last dimension contiguous
  DType dtype;
  int64_t query_stride, row_stride;  // in elements
  int64_t height, width;             // h, w
  const int64_t* queries;            // (count,) which queries
  int64_t count;

  int64_t input_height, input_width;  // the padded network input, 0: resized once, from (h, w) to the output
  int64_t crop_height, crop_width;    // its valid part
  int64_t out_height, out_width;      // H, W
  bool flip;
};

// From the stored logits to the output, both resizes composed.
constexpr PlaneResize to_output(const MaskSource& s) {
  return {{s.height, s.input_height, s.crop_height, s.out_height, false},
          {s.width, s.input_width, s.crop_width, s.out_width, s.flip}};
}

// From the stored logits to the network input. Without a network input, from the stored logits to themselves.
constexpr PlaneResize to_input(const MaskSource& s) {
  return {{s.height, 0, 0, s.input_height > 0 ? s.input_height : s.height, false},
          {s.width, 0, 0, s.input_width > 0 ? s.input_width : s.width, false}};
}

// From the valid part of the network input to the output. Without a network input, from what is stored.
constexpr PlaneResize from_input(const MaskSource& s) {
  return {{s.input_height > 0 ? s.crop_height : s.height, 0, 0, s.out_height, false},
          {s.input_width > 0 ? s.crop_width : s.width, 0, 0, s.out_width, s.flip}};
}

}  // namespace maskformer_ext
