// The host twins of the functions of common/cuda_mma.cuh that need tensor cores or asynchronous copies.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include <cuda_runtime.h>
#include "common/dtype.h"
#include "host_cuda/global_memory.h"
#include "host_cuda/rounding.h"

namespace maskformer_ext::cuda {

// A copy lands when its thread waits for it. The array checks that nobody touches its place before, and that another
// thread reads it only behind a barrier.
template <class T, int kSize>
HOST_CUDA_OWN void copy_async(host_cuda::SharedArray<T, kSize>& to, int index, const T* from, bool exists) {
  constexpr int kElements = 16 / sizeof(T);
  if (index % kElements != 0) host_cuda::block().fail("an asynchronous copy to an address that is no multiple of 16");
  if (reinterpret_cast<uintptr_t>(from) % 16 != 0) {
    host_cuda::block().fail("an asynchronous copy from an address that is no multiple of 16");
  }
  if (exists) host_cuda::note_read(from, 16);
  to.template copy<kElements>(index, from, exists);
}
template <class T, int kSize>
HOST_CUDA_OWN void copy_element_async(host_cuda::SharedArray<T, kSize>& to, int index, const T* from, bool exists) {
  static_assert(sizeof(T) == 4);
  if (exists) host_cuda::note_read(from, 4);
  to.template copy<1>(index, from, exists);
}
inline void commit_copies() { host_cuda::block().commit_copies(); }
template <int kGroups>
void wait_copies() {
  host_cuda::block().wait_copies(kGroups);
}

template <class T, int kSize>
void put_words(host_cuda::SharedArray<T, kSize>& to, int index, const uint32_t (&words)[4]) {
  constexpr int kElements = 16 / sizeof(T);
  if (index % kElements != 0) host_cuda::block().fail("16 bytes are written to an address that is no multiple of 16");
  const auto elements = std::bit_cast<std::array<T, kElements>>(words);
  to.note_lane(index, 16);
  for (int i = 0; i < kElements; ++i) to.poke(index + i, elements[i]);
}
template <class T, int kSize>
float peek_float(host_cuda::SharedArray<T, kSize>& from, int index) {
  std::array<T, sizeof(float) / sizeof(T)> elements;
  for (size_t i = 0; i < elements.size(); ++i) elements[i] = from.peek(index * elements.size() + i);
  return std::bit_cast<float>(elements);
}
template <class T, int kSize>
float get_float(host_cuda::SharedArray<T, kSize>& from, int index) {
  from.note_lane(index * (sizeof(float) / sizeof(T)), sizeof(float));
  return peek_float(from, index);
}
template <class T, int kSize>
void get_floats(host_cuda::SharedArray<T, kSize>& from, int index, float (&to)[4]) {
  if (index % 4 != 0) host_cuda::block().fail("16 bytes are read from an address that is no multiple of 16");
  from.note_lane(index * (sizeof(float) / sizeof(T)), 16);
  for (int i = 0; i < 4; ++i) to[i] = peek_float(from, index + i);
}
template <class T, int kSize>
void put_pair(host_cuda::SharedArray<T, kSize>& to, int index, float a, float b) {
  if (index % 2 != 0) host_cuda::block().fail("8 bytes are written to an address that is no multiple of 8");
  const float pair[2] = {a, b};
  const auto elements = std::bit_cast<std::array<T, 2 * sizeof(float) / sizeof(T)>>(pair);
  const int first = index * static_cast<int>(sizeof(float) / sizeof(T));
  to.note_lane(first, 8);
  for (size_t i = 0; i < elements.size(); ++i) to.poke(first + i, elements[i]);
}

// As the PTX ISA defines ldmatrix.x4. Lane 8 r + l gives the address of line l of matrix r. In register r, lane l
// receives elements 2 (l % 4) and the next of line l / 4, or with .trans of column l / 4.
template <bool kTermsContiguous, int kPitch, bool kHalvesTogether = false, int kSize>
void load_fragment(uint32_t (&to)[4], host_cuda::SharedArray<uint16_t, kSize>& from, int own) {
  const int lane = threadIdx.x % 32;
  if (own % 8 != 0) host_cuda::block().fail("a fragment begins at an address that is no multiple of 16");
  from.note_lane(own, 16);
  int lines[host_cuda::kWarp];
  host_cuda::all_lanes(own, lines);
  for (int r = 0; r < 4; ++r) {
    uint32_t halves[2];
    for (int half = 0; half < 2; ++half) {
      const int pair = 2 * (lane % 4) + half;
      const int line = kTermsContiguous ? lane / 4 : pair, element = kTermsContiguous ? pair : lane / 4;
      halves[half] = from.peek(lines[8 * r + line] + element);
    }
    to[r] = halves[0] | halves[1] << 16;
  }
}

template <bool kTermsContiguous, int kPitch, bool kHalvesTogether = false, int kSize>
void load_fragment(uint32_t (&to)[4], host_cuda::SharedArray<float, kSize>& from, int own) {
  for (int r = 0; r < 4; ++r) {
    to[r] = std::bit_cast<uint32_t>(float(from[own + register_offset<kTermsContiguous, kPitch, kHalvesTogether>(r)]));
  }
}

// Rounds to nearest, ties away from zero. 13 of the 23 bits of the fraction go.
inline uint32_t round_to_tf32(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return std::isfinite(x) ? (bits + 0x1000u) & ~0x1fffu : bits;
}

// The element of a fragment's word: `half` is 0 or 1 for 16-bit elements.
inline float element(Float16Product, uint32_t word, int half) {
  return MASKFORMER_EXT_VARIANT::to_float(Float16{static_cast<uint16_t>(word >> (16 * half))});
}
inline float element(BFloat16Product, uint32_t word, int half) {
  return MASKFORMER_EXT_VARIANT::to_float(BFloat16{static_cast<uint16_t>(word >> (16 * half))});
}
inline float element(TF32Product, uint32_t word, int) {
  if (word & 0x1fffu && std::isfinite(std::bit_cast<float>(word))) {
    host_cuda::block().fail("an operand of a tensor-core product is not rounded to TF32");
  }
  return std::bit_cast<float>(word);
}

template <class Product>
void multiply(Product product, float (&sums)[4], const uint32_t (&first)[4], uint32_t second0, uint32_t second1) {
  struct First {
    uint32_t words[4];
  } all_first[32];
  struct Second {
    uint32_t words[2];
  } all_second[32];
  host_cuda::all_lanes(First{{first[0], first[1], first[2], first[3]}}, all_first);
  host_cuda::all_lanes(Second{{second0, second1}}, all_second);
  constexpr int kHalves = Product::kStep / 8;  // elements in a word
  const int lane = threadIdx.x % 32;
  for (int s = 0; s < 4; ++s) {
    const int row = lane / 4, column = 2 * (lane % 4) + s % 2;
    double products[8 * kHalves];
    for (int i = 0; i < 8 * kHalves; ++i) {
      const int word = i / kHalves, half = i % kHalves;
      const uint32_t a = all_first[4 * row + word % 4].words[s / 2 + 2 * (word / 4)];
      const uint32_t b = all_second[4 * column + word % 4].words[word / 4];
      products[i] = double{element(product, a, half)} * element(product, b, half);
    }
    // In two steps, as an A100 does.
    for (int i = 0; i < 2; ++i) sums[s] = host_cuda::tensor_core_sum(sums[s], products + i * 4 * kHalves, 4 * kHalves);
  }
}

}  // namespace maskformer_ext::cuda
