// Which tensor-core product multiplies operands of a dtype.
#pragma once

#include <stdexcept>

#include "common/cuda_types.cuh"
#include "common/dot_tile.cuh"
#include "common/dtype.h"

namespace maskformer_ext::cuda {

// Blocks that are to fit on a multiprocessor at once; a split product needs the registers of two.
template <class Product>
constexpr int kTileBlocks = std::is_same_v<Product, SplitTF32Product> ? 1 : 2;

// The element type of a product's operands.
template <class Product>
using ElementOf =
    std::conditional_t<std::is_same_v<typename Product::Storage, float>, float,
                       std::conditional_t<std::is_same_v<Product, BFloat16Product>, __nv_bfloat16, __half>>;

// Calls body(product).
template <class Body>
void for_product(DType dtype, bool allow_tf32, Body&& body) {
  switch (dtype) {
    case DType::float32:
      return allow_tf32 ? body(TF32Product()) : body(SplitTF32Product());
    case DType::bfloat16:
      return body(BFloat16Product());
    case DType::float16:
      return body(Float16Product());
    default:
      throw std::invalid_argument("maskformer_ext: not a floating dtype");
  }
}

}  // namespace maskformer_ext::cuda
