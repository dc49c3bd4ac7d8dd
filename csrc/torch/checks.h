// Last-resort checks and conversions for the bindings. The checks that users see are in maskformer_ext/ops/<op>.py.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <initializer_list>
#include <string>

#include "common/dtype.h"

namespace maskformer_ext {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <class Sizes>
std::string sizes_string(const Sizes& sizes) {
  std::string text = "(";
  for (const int64_t size : sizes) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + (sizes.size() == 1 ? ",)" : ")");
}

inline std::string shape_string(const Tensor& tensor) { return sizes_string(tensor.sizes()); }

inline void check_dim(const Tensor& tensor, int64_t dim, const char* op, const char* argument) {
  STD_TORCH_CHECK(tensor.dim() == dim, op, ": ", argument, " must have ", dim, " dimensions, got shape ",
                  shape_string(tensor));
}

inline void check_same_shape(const Tensor& a, const Tensor& b, const char* op, const char* name_a, const char* name_b) {
  bool same = a.dim() == b.dim();
  for (int64_t i = 0; same && i < a.dim(); ++i) same = a.size(i) == b.size(i);
  STD_TORCH_CHECK(same, op, ": ", name_a, " and ", name_b, " must have the same shape, got ", shape_string(a), " and ",
                  shape_string(b));
}

inline void check_dtype(const Tensor& tensor, ScalarType dtype, const char* op, const char* argument) {
  STD_TORCH_CHECK(tensor.scalar_type() == dtype, op, ": ", argument, " must have dtype ",
                  torch::headeronly::toString(dtype), ", got ", torch::headeronly::toString(tensor.scalar_type()));
}

// The kernels' tag of a tensor's dtype. bool and uint8 share one.
inline DType kernel_dtype(const Tensor& tensor, const char* op, const char* argument) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return DType::float32;
    case ScalarType::BFloat16:
      return DType::bfloat16;
    case ScalarType::Half:
      return DType::float16;
    case ScalarType::Bool:
    case ScalarType::Byte:
      return DType::uint8;
    default:
      STD_TORCH_CHECK(false, op, ": ", argument, " must be float32, bfloat16, float16, bool or uint8, got ",
                      torch::headeronly::toString(tensor.scalar_type()));
  }
  return DType::float32;
}

inline DType floating_dtype(const Tensor& tensor, const char* op, const char* argument) {
  const DType dtype = kernel_dtype(tensor, op, argument);
  STD_TORCH_CHECK(dtype != DType::uint8, op, ": ", argument, " must be float32, bfloat16 or float16, got ",
                  torch::headeronly::toString(tensor.scalar_type()));
  return dtype;
}

// Checks that a tensor is (rows,) int64, and returns it contiguous.
inline Tensor contiguous_indices(const Tensor& tensor, int64_t rows, const char* op, const char* argument) {
  check_dtype(tensor, ScalarType::Long, op, argument);
  STD_TORCH_CHECK(tensor.dim() == 1 && tensor.size(0) == rows, op, ": ", argument, " must be (", rows, ",), got ",
                  shape_string(tensor));
  return torch::stable::contiguous(tensor);
}

// Checks that a tensor is float32 of a shape, and returns it contiguous.
inline Tensor contiguous_floats(const Tensor& tensor, std::initializer_list<int64_t> sizes, const char* op,
                                const char* argument) {
  check_dtype(tensor, ScalarType::Float, op, argument);
  bool fits = tensor.dim() == static_cast<int64_t>(sizes.size());
  for (int64_t i = 0; fits && i < tensor.dim(); ++i) fits = tensor.size(i) == sizes.begin()[i];
  STD_TORCH_CHECK(fits, op, ": ", argument, " must be ", sizes_string(sizes), ", got ", shape_string(tensor));
  return torch::stable::contiguous(tensor);
}

// Checks the map of pixels that targets leave out: (B, H, W) for targets (B, H, W) or (B, T, H, W).
inline void check_void_pixels(const Tensor& void_pixels, const Tensor& targets, const char* op, const char* argument) {
  const ScalarType dtype = void_pixels.scalar_type();
  STD_TORCH_CHECK(dtype == ScalarType::Bool || dtype == ScalarType::Byte, op, ": ", argument, " must be bool, got ",
                  torch::headeronly::toString(dtype));
  const int64_t last = targets.dim() - 1;
  STD_TORCH_CHECK(void_pixels.dim() == 3 && void_pixels.size(0) == targets.size(0) &&
                      void_pixels.size(1) == targets.size(last - 1) && void_pixels.size(2) == targets.size(last),
                  op, ": ", argument, " must be (B, H, W) as the targets ", shape_string(targets), ", got ",
                  shape_string(void_pixels));
}

// The tensor itself where rows are contiguous, whatever the other strides. Else a contiguous copy.
inline Tensor with_contiguous_rows(const Tensor& tensor) {
  const int64_t last = tensor.dim() - 1;
  return tensor.size(last) <= 1 || tensor.stride(last) == 1 ? tensor : torch::stable::contiguous(tensor);
}

}  // namespace maskformer_ext
