// The host twins of tensor-core instructions against the tables of the PTX ISA, which are written down here once more.
//
// They are "Matrix Fragments for mma.m16n8k16 with floating point type" and "for mma.m16n8k8". Element i of a lane's
// fragment is at the row and column below. There, group = lane / 4 and member = lane % 4. A register holds two 16-bit
// elements.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/cuda_launch.cuh"
#include "common/cuda_mma.cuh"
#include "common/dtype.h"

namespace {

using namespace maskformer_ext;
using namespace maskformer_ext::cuda;

struct Place {
  int row, column;
};

template <class... Parameters, class... Arguments>
void run_warp(void (*kernel)(Parameters...), const Arguments&... arguments) {
  CUstream_st* const stream = host_cuda::open_guard();
  launch(kernel, 1, 32, stream, arguments...);
  host_cuda::close_guard();
}

// A is (16, 16) with eight elements a lane, or (16, 8) with four.
Place place_in_a(int terms, int lane, int i) {
  const int group = lane / 4, member = lane % 4;
  if (terms == 16) {
    const bool upper = (0 <= i && i < 2) || (4 <= i && i < 6);
    return {upper ? group : group + 8, member * 2 + (i & 1) + (i < 4 ? 0 : 8)};
  }
  return {i == 0 || i == 2 ? group : group + 8, i == 0 || i == 1 ? member : member + 4};
}

// B is (16, 8) with four elements a lane, or (8, 8) with two.
Place place_in_b(int terms, int lane, int i) {
  const int group = lane / 4, member = lane % 4;
  if (terms == 16) return {i < 2 ? member * 2 + (i & 1) : member * 2 + (i & 1) + 8, group};
  return {i == 0 ? member : member + 4, group};
}

// C is (16, 8) with four elements a lane.
Place place_in_c(int lane, int i) { return {i < 2 ? lane / 4 : lane / 4 + 8, lane % 4 * 2 + (i & 1)}; }

template <class Product>
uint32_t encoded(float x) {
  if constexpr (std::is_same_v<Product, Float16Product>) return MASKFORMER_EXT_VARIANT::from_float<Float16>(x).bits;
  if constexpr (std::is_same_v<Product, BFloat16Product>) return MASKFORMER_EXT_VARIANT::from_float<BFloat16>(x).bits;
  return std::bit_cast<uint32_t>(x);
}

// Element (row, term) of the array is 16 * row + term.
template <class T, int kTerms, bool kTermsContiguous, bool kHalvesTogether>
__global__ void load_kernel(uint32_t* words) {
  constexpr int kPitch = 24;
  MASKFORMER_EXT_SHARED(T, values, 8 + 16 * kPitch);
  for (int i = threadIdx.x; i < 16 * kTerms; i += 32) {
    const int row = i / kTerms, term = i % kTerms;
    values[8 + (kTermsContiguous ? row * kPitch + term : term * kPitch + row)] = static_cast<T>(16 * row + term);
  }
  __syncthreads();
  uint32_t fragment[4];
  const int own = 8 + fragment_part<T, kTermsContiguous, kPitch, kHalvesTogether>(threadIdx.x);
  load_fragment<kTermsContiguous, kPitch, kHalvesTogether>(fragment, values, own);
  if (kHalvesTogether) std::swap(fragment[1], fragment[2]);
  for (int r = 0; r < 4; ++r) words[4 * threadIdx.x + r] = fragment[r];
}

template <class T, int kTerms, bool kTermsContiguous, bool kHalvesTogether>
std::string check_load_once() {
  std::vector<uint32_t> words(4 * 32);
  run_warp(load_kernel<T, kTerms, kTermsContiguous, kHalvesTogether>, words.data());
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < kTerms / 2; ++i) {
      const Place place = place_in_a(kTerms, lane, i);
      const int value = 16 * place.row + place.column;
      const uint32_t word = words[4 * lane + (kTerms == 16 ? i / 2 : i)];
      const bool right = kTerms == 16 ? (word >> (16 * (i % 2)) & 0xffffu) == static_cast<uint32_t>(value)
                                      : std::bit_cast<float>(word) == static_cast<float>(value);
      if (!right) return "load_fragment: lane " + std::to_string(lane) + ", element " + std::to_string(i);
    }
  }
  return "";
}

template <class T, int kTerms, bool kTermsContiguous>
std::string check_load() {
  return check_load_once<T, kTerms, kTermsContiguous, false>() + check_load_once<T, kTerms, kTermsContiguous, true>();
}

template <class Product>
__global__ void multiply_kernel(const uint32_t* a, const uint32_t* b, float* c) {
  const int lane = threadIdx.x;
  const uint32_t first[4] = {a[4 * lane], a[4 * lane + 1], a[4 * lane + 2], a[4 * lane + 3]};
  float sums[4] = {1.0f, 2.0f, 3.0f, 4.0f};
  multiply(Product(), sums, first, b[2 * lane], b[2 * lane + 1]);
  for (int s = 0; s < 4; ++s) c[4 * lane + s] = sums[s];
}

template <class Product>
std::string check_multiply() {
  constexpr int kTerms = Product::kStep, kHalves = kTerms / 8;
  const auto first = [](int row, int term) { return static_cast<float>((7 * row + 3 * term) % 11 - 5); };
  const auto second = [](int term, int column) { return static_cast<float>((5 * term + 2 * column) % 13 - 6); };
  std::vector<uint32_t> a(4 * 32), b(2 * 32);
  std::vector<float> c(4 * 32);
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4 * kHalves; ++i) {
      const Place place = place_in_a(kTerms, lane, i);
      a[4 * lane + i / kHalves] |= encoded<Product>(first(place.row, place.column)) << (16 * (i % kHalves));
    }
    for (int i = 0; i < 2 * kHalves; ++i) {
      const Place place = place_in_b(kTerms, lane, i);
      b[2 * lane + i / kHalves] |= encoded<Product>(second(place.row, place.column)) << (16 * (i % kHalves));
    }
  }
  run_warp(multiply_kernel<Product>, a.data(), b.data(), c.data());
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const Place place = place_in_c(lane, i);
      float sum = static_cast<float>(i + 1);
      for (int term = 0; term < kTerms; ++term) sum += first(place.row, term) * second(term, place.column);
      if (c[4 * lane + i] != sum) return "multiply: lane " + std::to_string(lane) + ", sum " + std::to_string(i);
    }
  }
  return "";
}

}  // namespace

// Returns what differs from the tables, "" if nothing.
extern "C" __attribute__((visibility("default"))) const char* check_fragments() {
  static std::string message;
  message = check_load<uint16_t, 16, true>() + check_load<uint16_t, 16, false>() + check_load<float, 8, true>() +
            check_load<float, 8, false>() + check_multiply<Float16Product>() + check_multiply<BFloat16Product>() +
            check_multiply<TF32Product>();
  return message.c_str();
}
