// CUDA kernels of multi-scale deformable attention. Backward adds integers, whose sum does not depend on their order.
#include <algorithm>

#include "common/cuda_block.cuh"
#include "ms_deform_attn/placed_points.cuh"

namespace maskformer_ext {
namespace cuda {
namespace {

// Whether tap i of a point is to be read, and where.
__device__ __forceinline__ bool reads(const PlacedPoint& point, int tap) { return (point.inside >> tap & 1u) != 0; }
__device__ __forceinline__ int tap_cell(const PlacedPoint& point, int tap) {
  return point.cell + (tap & 1) + (tap >> 1) * point.width;
}

template <class T, int Count>
__global__ void __launch_bounds__(kThreads, 4) ms_deform_attn_fwd_kernel(Params p, int lanes) {
  MASKFORMER_EXT_SHARED(PlacedPoint, slots, kSlots);
  const Team<Count> team(p, lanes);
  const int channels = static_cast<int>(p.op.channels), total = static_cast<int>(p.op.total_points);
  const int taps = p.op.discrete ? 1 : 4;
  const T* values = static_cast<const T*>(p.op.value) + team.image * p.op.image_stride + team.head * p.op.head_stride;
  // The loop over channels has one round, unless a head has very many.
  for (int round = 0; round < channels; round += team.step()) {
    const int channel = round + team.lane * Count;
    const bool works = team.active && channel < channels;
    float sum[Count] = {};
    for (int first = 0; first < total; first += 2 * lanes) {
      team.place(p, slots, first);
      const int count = min(2 * lanes, total - first);
      for (int i = 0; works && i < count; ++i) {
        const PlacedPoint point = slots[team.first_slot() + i];
        const Shares shares(point);
#pragma unroll
        for (int tap = 0; tap < 4; ++tap) {
          if (tap >= taps) break;
          Channels<T, Count> cell = {};
          if (reads(point, tap)) {
            cell = *reinterpret_cast<const Channels<T, Count>*>(values + tap_cell(point, tap) * p.op.cell_stride +
                                                                channel);
          }
#pragma unroll
          for (int c = 0; c < Count; ++c) sum[c] = fmaf(shares.of[tap], as_float(cell.of[c]), sum[c]);
        }
      }
    }
    if (!works) continue;
    Channels<T, Count> out;
#pragma unroll
    for (int c = 0; c < Count; ++c) assign(out.of[c], sum[c]);
    *reinterpret_cast<Channels<T, Count>*>(static_cast<T*>(p.op.out) + team.item * channels + channel) = out;
  }
}

// Finds the largest finite |grad| and |weight| of each image and head: a block per part of its queries.
template <class T>
__global__ void __launch_bounds__(kThreads) ms_deform_attn_largest_kernel(Params p, int parts, int64_t part_queries) {
  const int64_t unit = blockIdx.x / parts, image = unit / p.op.heads, head = unit % p.op.heads;
  const int64_t begin = blockIdx.x % parts * part_queries;
  const int64_t end = begin + part_queries < p.op.queries ? begin + part_queries : p.op.queries;
  const auto bits_of = [](float x) {
    const unsigned bits = __float_as_uint(fabsf(x));
    return bits < 0x7f800000u ? bits : 0u;
  };
  unsigned grad = 0, weight = 0;
  for (int64_t i = threadIdx.x; i < (end - begin) * p.op.channels; i += kThreads) {
    const int64_t item = (image * p.op.queries + begin + i / p.op.channels) * p.op.heads + head;
    grad = max(grad, bits_of(as_float(static_cast<const T*>(p.op.grad)[item * p.op.channels + i % p.op.channels])));
  }
  for (int64_t i = threadIdx.x; i < (end - begin) * p.op.total_points; i += kThreads) {
    const int64_t item = (image * p.op.queries + begin + i / p.op.total_points) * p.op.heads + head;
    const int64_t at = item * p.op.total_points + i % p.op.total_points;
    weight = max(weight, bits_of(read(p.op.weights, p.op.weights_dtype, at)));
  }
  grad = block_reduce<kThreads>(grad, Largest());
  weight = block_reduce<kThreads>(weight, Largest());
  if (threadIdx.x != 0) return;
  atomicMax(&p.largest[2 * unit], grad);
  atomicMax(&p.largest[2 * unit + 1], weight);
}

// The exponent of the factor of a unit's terms. A term is below 2^bound, and a point adds at most one to a sum.
__device__ __forceinline__ int term_exponent(const Params& p, int64_t unit) {
  const int grad = static_cast<int>(p.largest[2 * unit] >> 23) - 127;
  const int weight = static_cast<int>(p.largest[2 * unit + 1] >> 23) - 127;
  const int bound = min(grad + weight + 3, 128);  // no float is above
  int count = 0;                                  // 2^count terms at least
  while (count < 61 && (int64_t{1} << count) < p.op.queries * p.op.total_points) ++count;
  return min(62 - bound - count, 126);
}

__device__ __forceinline__ float power_of_two(int exponent) {
  return __uint_as_float(static_cast<unsigned>(exponent + 127) << 23);
}

__device__ __forceinline__ void add_term(const Params& p, int64_t at, float term, float factor) {
  if (!(fabsf(term) <= 3.402823466e38f)) {
    atomicOr(&p.not_finite[at / 32], 1u << (at % 32));
    return;
  }
  const long long scaled = llrintf(term * factor);
  if (scaled != 0) atomicAdd(&p.sums[at], static_cast<unsigned long long>(scaled));
}

template <class T, int Count>
__global__ void __launch_bounds__(kThreads, 2) ms_deform_attn_bwd_kernel(Params p, int lanes) {
  MASKFORMER_EXT_SHARED(PlacedPoint, slots, kSlots);
  const Team<Count> team(p, lanes);
  const int channels = static_cast<int>(p.op.channels), total = static_cast<int>(p.op.total_points);
  const int taps = p.op.discrete ? 1 : 4;
  const T* values = static_cast<const T*>(p.op.value) + team.image * p.op.image_stride + team.head * p.op.head_stride;
  const T* grads = static_cast<const T*>(p.op.grad) + team.item * channels;
  const int64_t first_sum = (team.image * p.op.cells * p.op.heads + team.head) * channels;
  const int64_t unit = team.image * p.op.heads + team.head;
  const float factor = p.sums != nullptr && team.active ? power_of_two(term_exponent(p, unit)) : 0.0f;
  // Neighbouring lanes add to neighbouring channels, so that their additions are few transactions. A lane therefore
  // holds two sets of gradients: those of the channels that it reads at once, and those of the channels that it adds
  // to.
  Channels<T, Count> read_grad = {};
  float added_grad[Count] = {};
  const auto load_grads = [&](int round) {
    const int channel = round + team.lane * Count;
    read_grad =
        channel < channels ? *reinterpret_cast<const Channels<T, Count>*>(grads + channel) : Channels<T, Count>();
#pragma unroll
    for (int c = 0; c < Count; ++c) {
      const int added = round + c * lanes + team.lane;
      added_grad[c] = added < channels ? as_float(grads[added]) : 0.0f;
    }
  };
  if (team.active) load_grads(0);
  for (int first = 0; first < total; first += 2 * lanes) {
    team.place(p, slots, first);
    const int count = min(2 * lanes, total - first);
    for (int i = 0; i < count; ++i) {
      PlacedPoint point = {};
      if (team.active) point = slots[team.first_slot() + i];
      const Shares shares(point);
      float product[4] = {};
      for (int round = 0; team.active && round < channels; round += team.step()) {
        if (channels > team.step()) load_grads(round);
        const int channel = round + team.lane * Count;
#pragma unroll
        for (int tap = 0; tap < 4; ++tap) {
          if (tap >= taps) break;
          const bool inside = reads(point, tap);
          const int64_t at = tap_cell(point, tap);
          Channels<T, Count> cell = {};
          if (inside && p.to_points && channel < channels) {
            cell = *reinterpret_cast<const Channels<T, Count>*>(values + at * p.op.cell_stride + channel);
          }
#pragma unroll
          for (int c = 0; c < Count; ++c) {
            product[tap] = fmaf(as_float(read_grad.of[c]), as_float(cell.of[c]), product[tap]);
          }
          if (!inside || p.sums == nullptr) continue;
          const int64_t sums = first_sum + at * p.op.heads * channels + round + team.lane;
#pragma unroll
          for (int c = 0; c < Count; ++c) {
            if (round + c * lanes + team.lane >= channels) continue;
            add_term(p, sums + c * lanes, shares.of[tap] * added_grad[c], factor);
          }
        }
      }
      if (!p.to_points) continue;
      for (int bits = lanes / 2; bits > 0; bits /= 2) {
#pragma unroll
        for (int tap = 0; tap < 4; ++tap) product[tap] += __shfl_xor_sync(kAllLanes, product[tap], bits);
      }
      if (!team.active || team.lane != 0) continue;
      const float lx = point.lx, ly = point.ly, gx = 1.0f - lx, gy = 1.0f - ly;
      const int64_t at = team.item * total + first + i;
      float dx = point.weight * static_cast<float>(point.width) *
                 (gy * (product[1] - product[0]) + ly * (product[3] - product[2]));
      float dy = point.weight * static_cast<float>(point.height) *
                 (gx * (product[2] - product[0]) + lx * (product[3] - product[1]));
      if (p.op.discrete) dx = dy = 0.0f;
      write(p.op.grad_locations, p.op.locations_dtype, 2 * at, dx);
      write(p.op.grad_locations, p.op.locations_dtype, 2 * at + 1, dy);
      write(p.op.grad_weights, p.op.weights_dtype, at,
            gy * (gx * product[0] + lx * product[1]) + ly * (gx * product[2] + lx * product[3]));
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) ms_deform_attn_finish_kernel(Params p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= p.value_elements) return;
  const int64_t row = i / p.op.channels;
  const int64_t unit = row / (p.op.heads * p.op.cells) * p.op.heads + row % p.op.heads;
  const auto sum = static_cast<float>(static_cast<long long>(p.sums[i]));
  const bool finite = (p.not_finite[i / 32] >> (i % 32) & 1u) == 0;
  assign(static_cast<T*>(p.op.grad_value)[i], finite ? ldexpf(sum, -term_exponent(p, unit)) : NAN);
}

// Calls body with a null pointer to the type of value's elements, and two numbers. The first, a constant, is how many
// channels a thread takes at a time. The second is how many threads share an item.
template <class Body>
void for_team(const Params& params, Body&& body) {
  const MsDeformAttnParams& p = params.op;
  const int64_t all = p.image_stride | p.cell_stride | p.head_stride | p.channels;
  const bool by_four = all % 4 == 0 && reinterpret_cast<uintptr_t>(p.value) % 16 == 0 &&
                       reinterpret_cast<uintptr_t>(p.out) % 16 == 0 && reinterpret_cast<uintptr_t>(p.grad) % 16 == 0;
  int lanes = 1;
  while (lanes < 32 && lanes * (by_four ? 4 : 1) < p.channels) lanes *= 2;
  for_cuda_float_type(p.value_dtype, [&](auto* type) {
    by_four ? body(type, std::integral_constant<int, 4>(), lanes) : body(type, std::integral_constant<int, 1>(), lanes);
  });
}

unsigned blocks_of(int64_t items, int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

}  // namespace
}  // namespace cuda

void ms_deform_attn_fwd_cuda(const MsDeformAttnCudaParams& params, CUstream_st* stream) {
  cuda::for_team(params, [&](auto* type, auto count, int lanes) {
    using T = std::remove_pointer_t<decltype(type)>;
    cuda::launch(cuda::ms_deform_attn_fwd_kernel<T, decltype(count)::value>,
                 cuda::blocks_of(params.items, cuda::kThreads / lanes), cuda::kThreads, stream, params, lanes);
  });
}

void ms_deform_attn_bwd_cuda(const MsDeformAttnCudaParams& params, CUstream_st* stream) {
  constexpr int64_t part_queries = 64;
  const auto parts = static_cast<int>(cuda::blocks_of(params.op.queries, part_queries));
  cuda::for_team(params, [&](auto* type, auto count, int lanes) {
    using T = std::remove_pointer_t<decltype(type)>;
    if (params.sums != nullptr) {
      cuda::launch(cuda::ms_deform_attn_largest_kernel<T>, static_cast<unsigned>(params.op.units() * parts),
                   cuda::kThreads, stream, params, parts, part_queries);
    }
    cuda::launch(cuda::ms_deform_attn_bwd_kernel<T, decltype(count)::value>,
                 cuda::blocks_of(params.items, cuda::kThreads / lanes), cuda::kThreads, stream, params, lanes);
    if (params.sums != nullptr) {
      cuda::launch(cuda::ms_deform_attn_finish_kernel<T>, cuda::blocks_of(params.value_elements, cuda::kThreads),
                   cuda::kThreads, stream, params);
    }
  });
}

}  // namespace maskformer_ext
