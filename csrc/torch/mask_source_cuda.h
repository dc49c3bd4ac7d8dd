// Describes a prediction to the CUDA kernels of inference (common/mask_source_cuda.h), with tables of taps in memory of
// torch's allocator.
#pragma once

#include <optional>

#include "common/mask_source_cuda.h"
#include "common/tap_table_cuda.h"
#include "torch/cuda_stream.h"
#include "torch/mask_source.h"

namespace maskformer_ext {

// Mask logits (Q, h, w) of one image, and the grids that kernels read them at. Lives until they are launched.
class __attribute__((visibility("hidden"))) CudaMaskSource {
 public:
  CudaMaskSource(const char* op, const Tensor& mask_logits, const Size& size, const std::optional<Size>& input_size,
                 const std::optional<Size>& crop, bool flip, const CudaScope& cuda)
      : logits_(with_contiguous_rows(mask_logits)),
        source_(mask_source(op, logits_, size, input_size, crop, flip)),
        stream_(cuda.stream) {
    constexpr int64_t most = INT32_MAX;
    STD_TORCH_CHECK(logits_.size(0) <= most && source_.row_stride <= most / source_.height &&
                        source_.width <= most - source_.height * source_.row_stride,
                    op, ": a query's mask_logits must span fewer than 2^31 elements, got shape ", shape_string(logits_),
                    " with rows ", source_.row_stride, " apart");
    for (const PlaneResize& resize : {to_output(source_), to_input(source_)}) {
      const int64_t rows = resize.rows.out, columns = resize.columns.out;
      STD_TORCH_CHECK(rows <= most && columns <= most / rows, op,
                      ": size and input_size must have fewer than 2^31 pixels, got (", rows, ", ", columns, ")");
    }
  }

  const MaskSource& sizes() const { return source_; }
  const Tensor& logits() const { return logits_; }

  // All queries' logits at the output, both resizes composed.
  CudaMasks at_output() { return masks(to_output(source_)); }
  // All queries' logits at the network input. Without a network input, as they are stored.
  CudaMasks at_input() { return masks(to_input(source_)); }
  // Tables only, from planes of values at the network input to the output. The caller sets the planes.
  CudaMasks from_input_to_output() {
    CudaMasks planes = with_tables(from_input(source_));
    planes.count = static_cast<int>(logits_.size(0));
    planes.height = static_cast<int>(from_input(source_).rows.in);
    planes.width = static_cast<int>(from_input(source_).columns.in);
    return planes;
  }

 private:
  CudaMasks masks(const PlaneResize& resize) {
    CudaMasks masks = with_tables(resize);
    masks.logits = source_.logits;
    masks.dtype = source_.dtype;
    masks.query_stride = source_.query_stride;
    masks.row_stride = source_.row_stride;
    masks.height = static_cast<int>(source_.height);
    masks.width = static_cast<int>(source_.width);
    masks.count = static_cast<int>(logits_.size(0));
    return masks;
  }

  CudaMasks with_tables(const PlaneResize& resize) {
    const int64_t rows = resize.rows.out, columns = resize.columns.out;
    constexpr int64_t bytes = sizeof(AxisTaps);
    tables_.push_back(torch::stable::new_empty(logits_, {(rows + columns) * bytes}, ScalarType::Byte));
    auto* taps = static_cast<AxisTaps*>(tables_.back().mutable_data_ptr());
    fill_taps_cuda(resize.rows, resize.columns, taps, taps + rows, stream_);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
    CudaMasks masks = {};
    masks.out_height = static_cast<int>(rows);
    masks.out_width = static_cast<int>(columns);
    masks.rows = taps;
    masks.columns = taps + rows;
    masks.taps = taps_of(resize);
    return masks;
  }

  Tensor logits_;
  MaskSource source_;
  cudaStream_t stream_;
  std::vector<Tensor> tables_;
};

}  // namespace maskformer_ext
