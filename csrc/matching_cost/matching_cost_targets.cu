// CUDA kernels that prepare the targets of matching_cost: segment maps become lists of pixels, masks become bits.
#include <algorithm>

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
    int* item = p.item + (image * p.max_items + first_item + i) * 2;
    item[0] = place + i * Params::kItemPixels;
    item[1] = min(item[0] + Params::kItemPixels, end);
  }
  if (lane == 0) {
    int* first_items = p.first_item + image * (p.segments + 2);
    first_items[group] = first_item;
    if (group == static_cast<int>(p.segments)) {
      first_items[group + 1] = first_item + items;
      p.counted[image] = end;
    }
  }
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

// Packs the masks of a word at (h, w), a pixel per thread.
__global__ void __launch_bounds__(kThreads) pack_masks_kernel(Params p) {
  const int64_t total = p.images * p.words * p.pixels();
  const int64_t target_pixels = static_cast<int64_t>(p.target_height) * p.target_width;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < total; i += int64_t{gridDim.x} * kThreads) {
    const int64_t image = i / p.pixels() / p.words;
    const int first = static_cast<int>(i / p.pixels() % p.words) * Params::kMasksOfWord;
    const int64_t place = target_pixel(p, static_cast<int>(i % p.pixels()));
    const int masks = min(segments_of(p, image) - first, Params::kMasksOfWord);
    const uint8_t* mask = p.masks + (image * p.segments + first) * target_pixels + place;
    uint32_t word = Params::kCounts;
#pragma unroll 8
    for (int t = 0; t < masks; ++t) word |= mask[t * target_pixels] != 0 ? 1u << t : 0u;
    if (p.void_map != nullptr && p.void_map[image * target_pixels + place] != 0) word = 0;
    p.bits[i] = word;
  }
}

// Counts the pixels of a mask; the block behind the last mask, those that count.
__global__ void __launch_bounds__(32) count_masks_kernel(Params p) {
  const auto [image, segment] = Group(p);
  const int lane = threadIdx.x, pixels = static_cast<int>(p.pixels());
  const bool is_mask = segment < static_cast<int>(p.segments);
  const int word = is_mask ? segment / Params::kMasksOfWord : 0;
  const uint32_t bit = is_mask ? uint32_t{1} << segment % Params::kMasksOfWord : Params::kCounts;
  const uint32_t* words = p.bits + (image * p.words + word) * p.pixels();
  int area = 0;
#pragma unroll 8
  for (int i = lane; i < pixels; i += 32) area += (words[i] & bit) != 0;
  area = warp_sum(area);
  if (lane != 0) return;
  p.group_area[blockIdx.x] = is_mask ? area : 0;
  if (!is_mask) p.counted[image] = area;
}

}  // namespace
}  // namespace cuda

void matching_cost_targets_cuda(const MatchingCostCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  if (params.images == 0 || params.segments == 0) return;
  const auto groups = static_cast<unsigned>((params.segments + 1) * params.images);
  const int64_t items = params.images * params.pixels() * (params.masks != nullptr ? params.words : 1);
  constexpr int64_t most_blocks = 1 << 20;  // each loops
  const auto blocks = static_cast<unsigned>(std::min<int64_t>((items + kThreads - 1) / kThreads, most_blocks));
  if (params.masks != nullptr) {
    if (items > 0) launch(pack_masks_kernel, blocks, kThreads, stream, params);
    launch(count_masks_kernel, groups, 32, stream, params);
    return;
  }
  if (items > 0) launch(find_owners_kernel, blocks, kThreads, stream, params);
  launch(count_groups_kernel, groups, 32, stream, params);
  launch(list_groups_kernel, groups, 32, stream, params);
}

}  // namespace maskformer_ext
