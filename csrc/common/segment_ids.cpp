// CPU kernel of the range of the ids in segment maps.
#include "common/segment_ids.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

template <class Id>
void range_of(const SegmentIdRangeParams& p, int64_t image) {
  Id lowest = 0, highest = -1;
  for (int64_t y = 0; y < p.height; ++y) {
    const Id* row = static_cast<const Id*>(p.segment_map) + image * p.image_stride + y * p.row_stride;
    Id low = 0, high = -1;
#pragma omp simd reduction(min : low) reduction(max : high)
    for (int64_t x = 0; x < p.width; ++x) {
      low = row[x] < low ? row[x] : low;
      high = row[x] > high ? row[x] : high;
    }
    lowest = low < lowest ? low : lowest;
    highest = high > highest ? high : highest;
  }
  p.lowest[image] = lowest;
  p.highest[image] = highest;
}

}  // namespace

void segment_id_range(const SegmentIdRangeParams& params, int64_t begin, int64_t end) {
  for (int64_t image = begin; image < end; ++image) {
    params.wide ? range_of<int32_t>(params, image) : range_of<int16_t>(params, image);
  }
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
