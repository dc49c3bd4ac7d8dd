// Tensor-core products of a warp, and asynchronous copies to shared memory.
//
// The host cannot run these few functions. Each has a twin in host_cuda/mma.h.
//
// A fragment is 16 lines of an operand (rows of the first, columns of the second) by kStep terms of the sum. A lane
// holds four registers of it. Register i + 2 j of a lane holds the line 8 i + lane / 4, and of its terms the 32-bit
// word 4 j + lane % 4.
//
// `multiply` takes a whole fragment as its first operand and half of one as its second. The half with columns 8 i to 8
// i + 7 is registers i and i + 2. They should be neighbours (kHalvesTogether), or the compiler copies them.
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

// Where a lane's part of a fragment begins, counted from the fragment's first element. Element (line, term) is line *
// kPitch + term. Where terms are not contiguous, line and term change places. Fragments of an array differ in constants
// only, so a thread computes this once.
//
// Of 16-bit elements it is the address that a lane gives to ldmatrix, where eight elements begin. Lane 8 r + l gives
// line l of the 8 x 8 matrix that becomes register r. Of floats it is the lane's element of register 0.
//
// kHalvesTogether exchanges registers 1 and 2. Both of a second operand's halves are then neighbours, as `multiply`
// needs them.
template <class T, bool kTermsContiguous, int kPitch, bool kHalvesTogether = false>
__device__ __forceinline__ int fragment_part(int lane) {
  static_assert(sizeof(T) == 4 || kPitch % 8 == 0);
  if constexpr (sizeof(T) == 4) return kTermsContiguous ? lane / 4 * kPitch + lane % 4 : lane % 4 * kPitch + lane / 4;
  const int r = lane / 8, line = lane % 8;
  const int i = kHalvesTogether ? r / 2 : r % 2, j = kHalvesTogether ? r % 2 : r / 2;
  return kTermsContiguous ? (8 * i + line) * kPitch + 8 * j : (8 * j + line) * kPitch + 8 * i;
}

// Where register r of a float fragment lies behind register 0.
template <bool kTermsContiguous, int kPitch, bool kHalvesTogether>
__device__ constexpr int register_offset(int r) {
  const int i = kHalvesTogether ? r / 2 : r % 2, j = kHalvesTogether ? r % 2 : r / 2;
  return kTermsContiguous ? 8 * i * kPitch + 4 * j : 4 * j * kPitch + 8 * i;
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

// The same for one element, whose addresses are multiples of its own size. It has four bytes.
template <class T, int kSize>
__device__ __forceinline__ void copy_element_async(T (&to)[kSize], int index, const T* from, bool exists) {
  static_assert(sizeof(T) == 4);
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to + index));
  const int bytes = exists ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(from), "r"(bytes) : "memory");
}

// Writes 16 bytes to shared memory, at a multiple of 16 bytes.
template <class T, int kSize>
__device__ __forceinline__ void put_words(T (&to)[kSize], int index, const uint32_t (&words)[4]) {
  *reinterpret_cast<uint4*>(to + index) = make_uint4(words[0], words[1], words[2], words[3]);
}

// Float number `index` of shared memory that otherwise holds elements.
template <class T, int kSize>
__device__ __forceinline__ float get_float(const T (&from)[kSize], int index) {
  return reinterpret_cast<const float*>(from)[index];
}
// Four of them, from a multiple of four on.
template <class T, int kSize>
__device__ __forceinline__ void get_floats(const T (&from)[kSize], int index, float (&to)[4]) {
  const float4 four = *reinterpret_cast<const float4*>(reinterpret_cast<const float*>(from) + index);
  to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
}
// Writes two of them, from an even one on.
template <class T, int kSize>
__device__ __forceinline__ void put_pair(T (&to)[kSize], int index, float a, float b) {
  *reinterpret_cast<float2*>(reinterpret_cast<float*>(to) + index) = make_float2(a, b);
}

// Loads a fragment of 16-bit elements. `own` is where it begins plus fragment_part. Rows of the array begin at
// multiples of 16 bytes.
template <bool kTermsContiguous, int kPitch, bool kHalvesTogether = false, int kSize>
__device__ __forceinline__ void load_fragment(uint32_t (&to)[4], const uint16_t (&from)[kSize], int own) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(from + own));
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
template <bool kTermsContiguous, int kPitch, bool kHalvesTogether = false, int kSize>
__device__ __forceinline__ void load_fragment(uint32_t (&to)[4], const float (&from)[kSize], int own) {
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    to[r] = __float_as_uint(from[own + register_offset<kTermsContiguous, kPitch, kHalvesTogether>(r)]);
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
