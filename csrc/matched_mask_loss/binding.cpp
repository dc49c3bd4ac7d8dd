// torch.ops.maskformer_ext.matched_mask_loss: schema and checks, on the CPU. Kernels and backward are those of
// mask_loss.
#include <limits>
#include <vector>

#include "common/segment_ids.h"
#include "mask_loss/call.h"
#include "matched_mask_loss/call.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "matched_mask_loss";

// Raises an error where a segment map holds an id that its image does not have.
void check_segment_map(const Tensor& map, const int64_t* num_segments) {
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

MaskLossOutputs matched_mask_loss_cpu(const Tensor& mask_logits, const Tensor& targets_in,
                                      const Tensor& num_segments_in, const std::optional<Tensor>& void_in,
                                      const Tensor& image_index_in, const Tensor& segment_index_in, double alpha,
                                      double gamma, bool ignore_void, bool with_grad) {
  const MatchedMaskLossCall call(
      op, {mask_logits, targets_in, num_segments_in, void_in, image_index_in, segment_index_in}, ignore_void);
  const Tensor &targets = call.targets, &num_segments = call.num_segments;
  const int64_t masks = call.masks(), images = call.images();
  MaskLossParams params = mask_loss_params(op, call.logits, call.target_height(), call.target_width(), alpha, gamma);

  const int64_t* counts = num_segments.const_data_ptr<int64_t>();
  const int64_t most = call.is_map ? std::numeric_limits<int32_t>::max() : targets.size(1);
  for (int64_t image = 0; image < images; ++image) {
    STD_TORCH_CHECK(counts[image] >= 0 && counts[image] <= most, op,
                    ": targets.num_segments must lie in [0, T] with T = ", most, ", got ", counts[image], " for image ",
                    image);
  }

  std::vector<int64_t> plane(masks), segment(masks), image_of(masks);
  const int64_t image_stride = targets.stride(0), segment_stride = call.is_map ? 0 : targets.stride(1);
  // Planes are counted in units of one element, since images and segments may be strided differently.
  for (int64_t mask = 0; mask < masks; ++mask) {
    const int64_t image = call.image_index.const_data_ptr<int64_t>()[mask];
    segment[mask] = call.segment_index.const_data_ptr<int64_t>()[mask];
    image_of[mask] = image;
    STD_TORCH_CHECK(image >= -1 && image < images, op, ": image_index must lie in [-1, ", images, "), got ", image,
                    " for mask ", mask);
    STD_TORCH_CHECK(segment[mask] >= -1 && (image < 0 || segment[mask] < counts[image]), op,
                    ": segment_index must lie in [-1, ", image < 0 ? 0 : counts[image], ") for image ", image, ", got ",
                    segment[mask], " for mask ", mask);
    const bool paired = image >= 0 && segment[mask] >= 0;
    plane[mask] = paired ? image * image_stride + segment[mask] * segment_stride : -1;
  }
  params.targets = targets.const_data_ptr();
  params.plane = plane.data();
  params.segment = segment.data();
  params.target_plane_stride = 1;
  params.target_row_stride = targets.stride(targets.dim() - 2);
  if (call.is_map) {
    params.target_kind = call.is_int16() ? TargetKind::map_i16 : TargetKind::map_i32;
    params.ignore_void = ignore_void;
    check_segment_map(targets, counts);
  } else {
    params.target_dtype = kernel_dtype(targets, op, "targets.masks");
    params.target_kind = params.target_dtype == DType::uint8 ? TargetKind::flags : TargetKind::values;
    params.void_pixels = call.void_data();
    params.void_plane = image_of.data();
  }
  return run_mask_loss(params, call.logits, with_grad);
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def(
      "matched_mask_loss(Tensor mask_logits, Tensor targets, Tensor num_segments, Tensor? void, Tensor image_index, "
      "Tensor segment_index, float alpha, float gamma, bool ignore_void, bool with_grad) "
      "-> (Tensor focal, Tensor dice, Tensor maps, Tensor coefficients)");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("matched_mask_loss", TORCH_BOX(&matched_mask_loss_cpu));
}

}  // namespace
}  // namespace maskformer_ext
