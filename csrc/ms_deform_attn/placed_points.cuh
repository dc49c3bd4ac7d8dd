// Sampling points on a GPU: their taps in value, placed by the threads of a block for all of them.
#pragma once

#include "common/cuda_types.cuh"
#include "common/point_position.h"
#include "ms_deform_attn/ms_deform_attn_cuda.h"

namespace maskformer_ext::cuda {

using Params = MsDeformAttnCudaParams;

constexpr int kThreads = 256;
constexpr int kSlots = 2 * kThreads;  // points that a block places at a time

// A point. Bit i of `inside` says whether tap i lies in the map; taps are left and right, above and below.
struct PlacedPoint {
  int cell;    // the first tap, also where it lies outside
  int height;  // of the level
  int width;
  unsigned inside;
  float lx, ly;  // the point between the taps, from 0 to 1 up to rounding
  float weight;  // of attention
};
constexpr unsigned kUnknown = 16;  // a bit of `inside`: the location is NaN

// An element of a tensor whose dtype is known at run time; the same for all threads, so the branch costs little.
__device__ __forceinline__ float read(const void* from, DType dtype, int64_t at) {
  if (dtype == DType::float32) return static_cast<const float*>(from)[at];
  if (dtype == DType::bfloat16) return as_float(static_cast<const __nv_bfloat16*>(from)[at]);
  return as_float(static_cast<const __half*>(from)[at]);
}

__device__ __forceinline__ void write(void* to, DType dtype, int64_t at, float x) {
  if (dtype == DType::float32) return assign(static_cast<float*>(to)[at], x);
  if (dtype == DType::bfloat16) return assign(static_cast<__nv_bfloat16*>(to)[at], x);
  assign(static_cast<__half*>(to)[at], x);
}

__device__ __forceinline__ PlacedPoint place_point(const Params& p, int64_t item, int point) {
  int number = static_cast<int>(p.op.levels) - 1;
  while (number > 0 && point < p.levels[number].first_point) --number;
  const Params::Level level = p.levels[number];
  const int64_t at = item * p.op.total_points + point;
  const float x = read(p.op.locations, p.op.locations_dtype, 2 * at);
  const float y = read(p.op.locations, p.op.locations_dtype, 2 * at + 1);
  const float width = static_cast<float>(level.width), height = static_cast<float>(level.height);
  PlacedPoint placed = {
      level.first_cell, level.height, level.width, 0, 0.0f, 0.0f, read(p.op.weights, p.op.weights_dtype, at)};
  if (x != x || y != y) {
    placed.inside = kUnknown;
    return placed;
  }
  if (p.op.discrete) {
    const int column = static_cast<int>(fminf(fmaxf(multiply_then_add(x, width, 0.5f), 0.0f), width - 1.0f));
    const int row = static_cast<int>(fminf(fmaxf(multiply_then_add(y, height, 0.5f), 0.0f), height - 1.0f));
    placed.cell += row * level.width + column;
    placed.inside = 1;
    return placed;
  }
  const float px = point_position(x, width), py = point_position(y, height);
  if (!(px >= -1.0f && px < width && py >= -1.0f && py < height)) return placed;
  const float left = floorf(px), above = floorf(py);
  placed.lx =
      multiply_add_exactly(x, width, -0.5f - left);  // rounded once, so that its error does not grow with the width
  placed.ly = multiply_add_exactly(y, height, -0.5f - above);
  const int column = static_cast<int>(left), row = static_cast<int>(above);
  placed.cell += row * level.width + column;
  const unsigned columns = (column >= 0 ? 1u : 0u) | (column + 1 < level.width ? 2u : 0u);
  placed.inside = (row >= 0 ? columns : 0u) | (row + 1 < level.height ? columns << 2 : 0u);
  return placed;
}

// The weight times the shares of the taps.
struct Shares {
  __device__ __forceinline__ explicit Shares(const PlacedPoint& point) {
    const float a = (point.inside & kUnknown) != 0 ? NAN : point.weight;
    const float above = a * (1.0f - point.ly), below = a * point.ly;
    of[0] = above * (1.0f - point.lx);
    of[1] = above * point.lx;
    of[2] = below * (1.0f - point.lx);
    of[3] = below * point.lx;
  }
  float of[4];
};

// `Count` neighbouring channels; they are aligned.
template <class T, int Count>
struct alignas(Count * sizeof(T)) Channels {
  T of[Count];
};

// Who computes what: `lanes` neighbouring threads share a query and head, and each takes `Count` channels at a time.
// A block has kThreads / lanes of these items, and places 2 * lanes points of each at a time.
template <int Count>
struct Team {
  __device__ __forceinline__ explicit Team(const Params& p, int lanes_in)
      : lanes(lanes_in),
        lane(static_cast<int>(threadIdx.x) % lanes_in),
        own(static_cast<int>(threadIdx.x) / lanes_in),
        item(static_cast<int64_t>(blockIdx.x) * (kThreads / lanes_in) + own),
        active(item < p.items) {
    const int64_t image_query = item / p.op.heads;
    head = item % p.op.heads;
    image = image_query / p.op.queries;
  }

  // Places points [first, first + 2 * lanes) of the block's items. All threads of the block call it.
  template <class Slots>
  __device__ __forceinline__ void place(const Params& p, Slots& slots, int first) const {
    __syncthreads();  // earlier points may still be read
    for (int slot = threadIdx.x; slot < kSlots; slot += kThreads) {
      const int64_t of = static_cast<int64_t>(blockIdx.x) * (kThreads / lanes) + slot / (2 * lanes);
      const int point = first + slot % (2 * lanes);
      if (of < p.items && point < p.op.total_points) slots[slot] = place_point(p, of, point);
    }
    __syncthreads();
  }

  __device__ __forceinline__ int first_slot() const { return own * 2 * lanes; }
  __device__ __forceinline__ int step() const { return lanes * Count; }

  int lanes, lane, own;
  int64_t item;
  bool active;
  int64_t head, image;
};

}  // namespace maskformer_ext::cuda
