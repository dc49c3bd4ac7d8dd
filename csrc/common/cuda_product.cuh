// Chooses the tensor-core product for operands of a dtype, and numbers the tiles of its result.
#pragma once

#include <cstdint>
#include <stdexcept>

#include "common/cuda_types.cuh"
#include "common/dot_tile.cuh"
#include "common/dtype.h"

namespace maskformer_ext::cuda {

// How many blocks are to fit on a multiprocessor at once. A split product needs the registers of two.
template <class Product>
constexpr int kTileBlocks = std::is_same_v<Product, SplitTF32Product> ? 1 : 2;

// The number of tiles that cover this many lines.
constexpr unsigned tiles(int64_t lines) { return static_cast<unsigned>((lines + kTileLines - 1) / kTileLines); }

// A tile of one of several matrices.
struct TilePlace {
  int row_begin, column_begin;
  int64_t matrix;
};

// The tile of this block. Tiles are numbered along the grid's x axis, since the other two end at 65535. Neighbours
// share columns.
__device__ __forceinline__ TilePlace tile_place(unsigned row_tiles, unsigned column_tiles) {
  const unsigned column = blockIdx.x / row_tiles;
  return {static_cast<int>(blockIdx.x % row_tiles) * kTileLines, static_cast<int>(column % column_tiles) * kTileLines,
          column / column_tiles};
}

// The element type of a product's operands.
template <class Product>
using ElementOf =
    std::conditional_t<std::is_same_v<typename Product::Storage, float>, float,
                       std::conditional_t<std::is_same_v<Product, BFloat16Product>, __nv_bfloat16, __half>>;

// Calls body(product) with the product that multiplies operands of this dtype.
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
