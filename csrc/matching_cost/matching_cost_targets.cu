// CUDA kernels that prepare the targets of matching_cost: segment maps become lists of pixels, masks become bits.
#include "common/cuda_block.cuh"
#include "matching_cost/matching_cost_cuda.h"
#include "matching_cost/target_segments.cuh"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = MatchingCostCudaParams;
constexpr int kThreads = 256;
constexpr int kAhead = 8;  // loads of a lane in flight at once, where stores keep the compiler from moving them

// The place of a pixel at (h, w) in the target, as torch's nearest neighbour: a position times a float scale.
__device__ int64_t target_pixel(const Params& p, int pixel) {
  const int y = pixel / p.width, x = pixel % p.width;
  const float row_scale = static_cast<float>(p.target_height) / static_cast<float>(p.height);
  const float column_scale = static_cast<float>(p.target_width) / static_cast<float>(p.width);
  const int row = min(static_cast<int>(floorf(static_cast<float>(y) * row_scale)), p.target_height - 1);
  const int column = min(static_cast<int>(floorf(static_cast<float>(x) * column_scale)), p.target_width - 1);
  return static_cast<int64_t>(row) * p.target_width + column;
}

__global__ void __launch_bounds__(kThreads) find_owners_kernel(Params p) {
  const int64_t total = p.images * p.pixels(), target_pixels = static_cast<int64_t>(p.target_height) * p.target_width;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < total; i += int64_t{gridDim.x} * kThreads) {
    const int64_t image = i / p.pixels();
    const int64_t place = image * target_pixels + target_pixel(p, static_cast<int>(i % p.pixels()));
    const int id =
        p.wide ? static_cast<const int32_t*>(p.segment_map)[place] : static_cast<const int16_t*>(p.segment_map)[place];
    const bool known = id >= 0 && id < segments_of(p, image);  // an id out of range is void
    p.owner[i] = known ? id : (p.ignore_void ? -1 : static_cast<int>(p.segments));
  }
}

// The group of an image that this block has. Groups lie along one axis of the grid, since the others end at 65535.
struct Group {
  int64_t image;
  int group;

  __device__ explicit Group(const Params& p) {
    const auto groups = static_cast<unsigned>(p.segments + 1);
    image = blockIdx.x / groups;
    group = static_cast<int>(blockIdx.x % groups);
  }
};

__global__ void __launch_bounds__(32) count_groups_kernel(Params p) {
  const Group at(p);
  const int lane = threadIdx.x, pixels = static_cast<int>(p.pixels());
  const int* owner = p.owner + at.image * p.pixels();
  int area = 0;
  for (int i = lane; i < pixels; i += 32) area += owner[i] == at.group;
  area = warp_sum(area);
  if (lane == 0) p.group_area[blockIdx.x] = area;
}

// Lists a group's pixels in raster order and cuts the list into items.
__global__ void __launch_bounds__(32) list_groups_kernel(Params p) {
  const auto [image, group] = Group(p);
  const int lane = threadIdx.x, pixels = static_cast<int>(p.pixels());
  const int* area = p.group_area + image * (p.segments + 1);
  int place = 0, first_item = 0;
  for (int g = lane; g < group; g += 32) {
    place += area[g];
    first_item += (area[g] + Params::kItemPixels - 1) / Params::kItemPixels;
  }
  place = warp_sum(place);
  first_item = warp_sum(first_item);
  const int end = place + area[group], items = (area[group] + Params::kItemPixels - 1) / Params::kItemPixels;
  for (int i = lane; i < items; i += 32) {
    int* item = p.item + (image * p.max_items + first_item + i) * 3;
    item[0] = group;
    item[1] = place + i * Params::kItemPixels;
    item[2] = min(item[1] + Params::kItemPixels, end);
  }
  if (group == static_cast<int>(p.segments) && lane == 0) p.num_items[image] = first_item + items;
  const int* owner = p.owner + image * p.pixels();
  int* order = p.order + image * p.pixels();
  for (int first = lane; first - lane < pixels; first += 32 * kAhead) {
    int owners[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) owners[i] = first + 32 * i < pixels ? owner[first + 32 * i] : -1;
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const bool mine = owners[i] == group;
      const unsigned found = __ballot_sync(kAllLanes, mine);
      if (mine) order[place + __popc(found & ((1u << lane) - 1u))] = first + 32 * i;
      place += __popc(found);
    }
  }
}

// Packs masks to bits at (h, w). The row behind the last mask holds the pixels that count.
__global__ void __launch_bounds__(32) pack_masks_kernel(Params p) {
  const auto [image, segment] = Group(p);
  const int lane = threadIdx.x, pixels = static_cast<int>(p.pixels());
  const int64_t target_pixels = static_cast<int64_t>(p.target_height) * p.target_width;
  const bool is_mask = segment < p.segments;
  const uint8_t* mask = p.masks + (image * p.segments + segment) * target_pixels;
  const uint8_t* excluded = p.void_map == nullptr ? nullptr : p.void_map + image * target_pixels;
  uint32_t* bits = p.bits + (image * (p.segments + 1) + segment) * p.words;
  int area = 0;
  for (int first = 0; first < p.words; first += kAhead) {
    bool inside[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int pixel = 32 * (first + i) + lane;
      inside[i] = pixel < pixels;
      if (!inside[i]) continue;
      const int64_t place = target_pixel(p, pixel);
      const bool in_mask = !is_mask || mask[place] != 0, counts = excluded == nullptr || excluded[place] == 0;
      inside[i] = in_mask && counts;
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const unsigned found = __ballot_sync(kAllLanes, inside[i]);
      if (lane == 0 && first + i < p.words) bits[first + i] = found;
      area += __popc(found);
    }
  }
  if (lane == 0) p.group_area[blockIdx.x] = area;
}

}  // namespace
}  // namespace cuda

void matching_cost_targets_cuda(const MatchingCostCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  if (params.images == 0 || params.segments == 0) return;
  const auto groups = static_cast<unsigned>((params.segments + 1) * params.images);
  if (params.masks != nullptr) {
    launch(pack_masks_kernel, groups, 32, stream, params);
    return;
  }
  const int64_t pixels = params.images * params.pixels();
  if (pixels > 0) {
    launch(find_owners_kernel, static_cast<unsigned>((pixels + kThreads - 1) / kThreads), kThreads, stream, params);
  }
  launch(count_groups_kernel, groups, 32, stream, params);
  launch(list_groups_kernel, groups, 32, stream, params);
}

}  // namespace maskformer_ext
