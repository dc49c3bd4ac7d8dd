// Checks the values of targets and of the pairs that masks were matched with, on the CPU: what bindings of losses
// share.
#pragma once

#include <limits>
#include <vector>

#include "common/segment_ids.h"
#include "torch/checks.h"

namespace maskformer_ext {

// Raises an error where a segment map holds an id that its image does not have.
inline void check_segment_map(const char* op, const Tensor& map, const int64_t* num_segments) {
  const int64_t images = map.size(0);
  std::vector<int64_t> lowest(images), highest(images);
  const SegmentIdRangeParams params = {
      .segment_map = map.const_data_ptr(),
      .wide = map.scalar_type() == ScalarType::Int,
      .image_stride = map.stride(0),
      .row_stride = map.stride(1),
      .height = map.size(1),
      .width = map.size(2),
      .lowest = lowest.data(),
      .highest = highest.data(),
  };
  torch::stable::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) { segment_id_range(params, begin, end); });
  for (int64_t image = 0; image < images; ++image) {
    STD_TORCH_CHECK(lowest[image] >= -1 && highest[image] < num_segments[image], op,
                    ": targets.segment_map must hold ids in [-1, ", num_segments[image], ") for image ", image,
                    ", got ", lowest[image], " to ", highest[image]);
  }
}

// Where the target of each mask is, and which segment of a segment map it is.
struct TargetPlanes {
  std::vector<int64_t> plane;    // the first element of a mask's target in `targets`; -1: no pair
  std::vector<int64_t> segment;  // -1: no pair
  std::vector<int64_t> image;    // -1: no pair
};

// Finds the targets of pairs in a segment map (B, H, W) or masks (B, T, H, W). Raises an error where a number of
// segments, an image or a segment is out of range. `counts` is (B,), the indices are (masks,).
inline TargetPlanes target_planes(const char* op, const Tensor& targets, const int64_t* counts,
                                  const int64_t* image_index, const int64_t* segment_index, int64_t masks) {
  const bool is_map = targets.dim() == 3;
  const int64_t images = targets.size(0);
  const int64_t most = is_map ? std::numeric_limits<int32_t>::max() : targets.size(1);
  for (int64_t image = 0; image < images; ++image) {
    STD_TORCH_CHECK(counts[image] >= 0 && counts[image] <= most, op,
                    ": targets.num_segments must lie in [0, T] with T = ", most, ", got ", counts[image], " for image ",
                    image);
  }
  const int64_t image_stride = targets.stride(0), segment_stride = is_map ? 0 : targets.stride(1);
  TargetPlanes found = {std::vector<int64_t>(masks), std::vector<int64_t>(segment_index, segment_index + masks),
                        std::vector<int64_t>(image_index, image_index + masks)};
  for (int64_t mask = 0; mask < masks; ++mask) {
    const int64_t image = image_index[mask], segment = segment_index[mask];
    STD_TORCH_CHECK(image >= -1 && image < images, op, ": image_index must lie in [-1, ", images, "), got ", image,
                    " for mask ", mask);
    STD_TORCH_CHECK(segment >= -1 && (image < 0 || segment < counts[image]), op, ": segment_index must lie in [-1, ",
                    image < 0 ? 0 : counts[image], ") for image ", image, ", got ", segment, " for mask ", mask);
    found.plane[mask] = image >= 0 && segment >= 0 ? image * image_stride + segment * segment_stride : -1;
  }
  return found;
}

}  // namespace maskformer_ext
