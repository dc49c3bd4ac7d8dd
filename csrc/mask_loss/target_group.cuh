// Targets of mask_loss on a GPU: what a mask is compared with, four neighbouring pixels at a time.
#pragma once

#include "common/cuda_base.cuh"
#include "common/cuda_types.cuh"
#include "mask_loss/mask_loss_cuda.h"

namespace maskformer_ext::cuda {

// The target that a mask is compared with. There is none where its image or segment does not exist.
struct MaskTarget {
  bool paired;
  int segment, segments;  // of a segment map: the mask's id, and how many ids exist
  int image;              // of the void pixels
  int64_t plane;          // offset of the target's first element
};

__device__ inline MaskTarget mask_target(const MaskLossCudaParams& p, int mask) {
  MaskTarget target = {true, 0, 0, 0, mask * p.target_plane_stride};
  if (p.image_index == nullptr) return target;
  const int64_t image = p.image_index[mask], segment = p.segment_index[mask];
  if (image < 0 || image >= p.images || segment < 0) return {false, 0, 0, 0, 0};
  const int64_t segments = p.num_segments[image];
  target.paired = segment < segments && (p.is_map || segment < p.segments);
  target.segment = static_cast<int>(segment < INT32_MAX ? segment : INT32_MAX);
  target.segments = static_cast<int>(segments < INT32_MAX ? segments : INT32_MAX);
  target.image = static_cast<int>(image);
  target.plane = image * p.target_image_stride + (p.is_map ? 0 : segment * p.target_plane_stride);
  return target;
}

// The pixels that a thread evaluates in every row.
struct GroupPlace {
  int x, exist;       // the first, inside the row; and how many there are, none to kMaskLossGroup
  uint32_t left_out;  // a byte per pixel, not zero where it does not exist
};

// A group of a row, by one load where it is aligned. The last pixel stands for those that do not exist.
template <bool kAligned, class T>
__device__ __forceinline__ void load_group(const T* row, const GroupPlace& place, T (&to)[kMaskLossGroup]) {
  struct alignas(kMaskLossGroup * sizeof(T)) Group {
    T pixels[kMaskLossGroup];
  };
  if constexpr (kAligned) {
    const Group group = *reinterpret_cast<const Group*>(row + place.x);
    for (int k = 0; k < kMaskLossGroup; ++k) to[k] = group.pixels[k];
  } else {
    const T* first = base_of(row + place.x);
    for (int k = 0; k < kMaskLossGroup; ++k) to[k] = first[static_cast<unsigned>(max(min(k, place.exist - 1), 0))];
  }
}

template <bool kAligned>
__device__ __forceinline__ uint32_t load_bytes(const uint8_t* row, const GroupPlace& place) {
  if constexpr (kAligned) return *reinterpret_cast<const uint32_t*>(row + place.x);
  uint8_t bytes[kMaskLossGroup];
  load_group<false>(row, place, bytes);
  return bytes[0] | bytes[1] << 8 | bytes[2] << 16 | static_cast<uint32_t>(bytes[3]) << 24;
}

// A byte per pixel, not zero where it is inside, and where it is left out.
struct GroupFlags {
  uint32_t inside, left_out;
};

template <bool kAligned, class Id>
__device__ __forceinline__ void map_flags(const MaskLossCudaParams& p, const MaskTarget& target, const Id* row,
                                          const GroupPlace& place, GroupFlags& flags) {
  Id ids[kMaskLossGroup];
  load_group<kAligned>(row, place, ids);
  for (int k = 0; k < kMaskLossGroup; ++k) {
    if (ids[k] == target.segment) flags.inside |= 1u << 8 * k;
  }
  if (!p.ignore_void) return;
  for (int k = 0; k < kMaskLossGroup; ++k) {
    if (static_cast<unsigned>(ids[k]) >= static_cast<unsigned>(target.segments)) flags.left_out |= 1u << 8 * k;
  }
}

// The flags of a group in row y. `from` is the offset of that row. `inside` is for targets that are flags or ids.
template <bool kValues, bool kAligned>
__device__ __forceinline__ GroupFlags group_flags(const MaskLossCudaParams& p, const MaskTarget& target, int64_t from,
                                                  int y, const GroupPlace& place) {
  GroupFlags flags = {0, place.left_out};
  if (!kValues && p.is_map) {
    if (p.wide) {
      map_flags<kAligned>(p, target, static_cast<const int32_t*>(p.targets) + from, place, flags);
    } else {
      map_flags<kAligned>(p, target, static_cast<const int16_t*>(p.targets) + from, place, flags);
    }
    return flags;
  }
  if (!kValues) flags.inside = load_bytes<kAligned>(static_cast<const uint8_t*>(p.targets) + from, place);
  if (p.void_pixels != nullptr) {
    const uint8_t* row = p.void_pixels + (int64_t{target.image} * p.target_height + y) * p.target_width;
    flags.left_out |= load_bytes<kAligned>(row, place);
  }
  return flags;
}

// How many bytes are not zero.
__device__ __forceinline__ int count_bytes(uint32_t bytes) {
  return __popc((((bytes & 0x7f7f7f7fu) + 0x7f7f7f7fu) | bytes) & 0x80808080u);
}

template <class T>
__device__ __forceinline__ void load_values(const void* targets, int64_t from, const GroupPlace& place,
                                            float (&to)[kMaskLossGroup]) {
  T values[kMaskLossGroup];
  load_group<false>(static_cast<const T*>(targets) + from, place, values);
  for (int k = 0; k < kMaskLossGroup; ++k) to[k] = as_float(values[k]);
}

// The values of a group's pixels, where targets lie between 0 and 1.
__device__ __forceinline__ void group_values(const MaskLossCudaParams& p, int64_t from, const GroupPlace& place,
                                             float (&to)[kMaskLossGroup]) {
  if (p.target_dtype == DType::float32) {
    load_values<float>(p.targets, from, place, to);
  } else if (p.target_dtype == DType::bfloat16) {
    load_values<__nv_bfloat16>(p.targets, from, place, to);
  } else {
    load_values<__half>(p.targets, from, place, to);
  }
}

}  // namespace maskformer_ext::cuda
