// Tensor-core products of a warp, and asynchronous copies to shared memory.
//
// The host cannot run these few functions. Each has a twin in host_cuda/mma.h.
//
// A fragment is 16 lines of an operand (rows of the first, columns of the second) by kStep terms of the sum. A lane
// holds four registers of it. Register i + 2 j of a lane holds the line 8 i + lane / 4, and of its terms the 32-bit
// word 4 j + lane % 4.
//
// `multiply` takes a whole fragment as its first operand and half of one as its second. The half with columns 8 i to 8
// i + 7 is registers i and i + 2.
#pragma once

#include <cstdint>

#include "common/cuda_launch.cuh"

namespace maskformer_ext::cuda {

// How a product treats its operands. kStep is the number of terms that one `multiply` adds.
struct Float16Product {
  using Storage = uint16_t;
  static constexpr int kStep = 16;
};
struct BFloat16Product {
  using Storage = uint16_t;
  static constexpr int kStep = 16;
};
struct TF32Product {  // float32 rounded to 11 significant bits
  using Storage = float;
  static constexpr int kStep = 8;
};

// The address that a lane gives to ldmatrix, counted from the fragment's first element. Eight 16-bit elements begin
// there. Lane 8 r + l gives line l of the 8 x 8 matrix that becomes register r.
template <bool kTermsContiguous, int kPitch>
__device__ __forceinline__ int fragment_line(int lane) {
  static_assert(kPitch % 8 == 0);
  const int i = lane / 8 % 2, j = lane / 16, line = lane % 8;
  return kTermsContiguous ? (8 * i + line) * kPitch + 8 * j : (8 * j + line) * kPitch + 8 * i;
}

}  // namespace maskformer_ext::cuda

#ifdef MASKFORMER_EXT_HOST_CUDA
#include "host_cuda/mma.h"
#else

namespace maskformer_ext::cuda {

// Copies 16 bytes to shared memory, or writes zeros where they do not exist. Both addresses are multiples of 16 bytes.
// The bytes are there after `wait_copies` and a barrier.
template <class T, int kSize>
__device__ __forceinline__ void copy_async(T (&to)[kSize], int index, const T* from, bool exists) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to + index));
  const int bytes = exists ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes) : "memory");
}

// Ends a group of copies.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most kGroups groups of this thread's copies are under way.
template <int kGroups>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

// Loads a fragment of 16-bit elements. Element (row, term) is from[begin + row * kPitch + term]. Where terms are not
// contiguous, row and term change places. Rows of the array begin at multiples of 16 bytes.
template <bool kTermsContiguous, int kPitch, int kSize>
__device__ __forceinline__ void load_fragment(uint32_t (&to)[4], const uint16_t (&from)[kSize], int begin) {
  const int place = begin + fragment_line<kTermsContiguous, kPitch>(threadIdx.x % 32);
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(from + place));
  if constexpr (kTermsContiguous) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  }
}

// Loads a fragment of float32. The registers hold the floats, not yet rounded.
template <bool kTermsContiguous, int kPitch, int kSize>
__device__ __forceinline__ void load_fragment(uint32_t (&to)[4], const float (&from)[kSize], int begin) {
  const int row = threadIdx.x % 32 / 4, term = threadIdx.x % 4;
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const int y = row + 8 * (r % 2), k = term + 4 * (r / 2);
    to[r] = __float_as_uint(from[begin + (kTermsContiguous ? y * kPitch + k : k * kPitch + y)]);
  }
}

// A float rounded to what the tensor cores keep of it.
__device__ __forceinline__ uint32_t round_to_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

// sums += first * second. Sums 0 and 1 are in row lane / 4, in column 2 (lane % 4) and the next. Sums 2 and 3 are eight
// rows below.
__device__ __forceinline__ void multiply(Float16Product, float (&sums)[4], const uint32_t (&first)[4], uint32_t second0,
                                         uint32_t second1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(first[0]), "r"(first[1]), "r"(first[2]), "r"(first[3]), "r"(second0), "r"(second1));
}
__device__ __forceinline__ void multiply(BFloat16Product, float (&sums)[4], const uint32_t (&first)[4],
                                         uint32_t second0, uint32_t second1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(first[0]), "r"(first[1]), "r"(first[2]), "r"(first[3]), "r"(second0), "r"(second1));
}
__device__ __forceinline__ void multiply(TF32Product, float (&sums)[4], const uint32_t (&first)[4], uint32_t second0,
                                         uint32_t second1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(first[0]), "r"(first[1]), "r"(first[2]), "r"(first[3]), "r"(second0), "r"(second1));
}

}  // namespace maskformer_ext::cuda

#endif
