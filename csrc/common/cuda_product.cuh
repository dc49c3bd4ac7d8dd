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

// Where a tile's result is stored: how many rows and columns exist from the tile's corner on. `fours` says whether four
// elements may be stored from every fourth column on.
struct TileStore {
  int rows, columns;
  bool fours;
};

// Whether rows of `columns` elements, `stride` apart, may be stored four elements at a time.
template <class T>
__device__ __forceinline__ bool stores_fours(const T* to, int64_t columns, int64_t stride) {
  return reinterpret_cast<uintptr_t>(to) % (4 * sizeof(T)) == 0 && columns % 4 == 0 && stride % 4 == 0;
}

// Writes the sums of a patch of a tile. `row(y)` is where the tile's row y begins; every thread calls it with rising y.
template <class Patch, class Row>
__device__ __forceinline__ void store_patch(const Patch& patch, const TileStore& store, Row&& row) {
  const int lane = threadIdx.x % 32;
  const int rows = min(32, store.rows - patch.row), columns = store.columns - patch.column;
  if (store.fours) {  // a warp writes four rows at once
    const int x = lane % 8 * 4;
    if (x >= columns) return;
#pragma unroll 2
    for (int y = lane / 8; y < rows; y += 4) {
      float values[4];
      patch.four(y, x, values);
      store_four(row(patch.row + y) + patch.column + x, values);
    }
    return;
  }
  if (lane >= columns) return;
#pragma unroll 2
  for (int y = 0; y < rows; ++y) assign(row(patch.row + y)[patch.column + lane], patch.sum(y, lane));
}

// Calls body(channels_last, aligned) with constants. Operands of float32 are taken as not aligned: the same kernel is
// as fast for both.
template <class Product, class Body>
void for_layout(bool channels_last, bool aligned, Body&& body) {
  const auto with_layout = [&](auto aligned_constant) {
    channels_last ? body(std::true_type(), aligned_constant) : body(std::false_type(), aligned_constant);
  };
  if constexpr (std::is_same_v<typename Product::Storage, float>) {
    with_layout(std::false_type());
  } else {
    aligned ? with_layout(std::true_type()) : with_layout(std::false_type());
  }
}

}  // namespace maskformer_ext::cuda
