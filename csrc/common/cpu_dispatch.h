// Chooses at run time among the instruction sets that every CPU kernel is compiled for.
//
// A kernel is declared once in <op>.h, at namespace maskformer_ext:
//
//     MASKFORMER_EXT_CPU_KERNEL(scale_fwd, const float* input, float* output, int64_t begin, int64_t end);
//
// and defined once in <op>.cpp, which the build compiles for baseline, AVX2 and AVX-512:
//
//     namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
//     void scale_fwd(const float* input, float* output, int64_t begin, int64_t end) {
//     #pragma omp simd
//       for (int64_t i = begin; i < end; ++i) output[i] = 2.0f * input[i];
//     }
//     }
//
// binding.cpp calls maskformer_ext::scale_fwd(...). That is the widest version that this processor runs, or the one
// that MASKFORMER_EXT_CPU=baseline|avx2|avx512 asks for. Whatever else a kernel file defines belongs in the same
// namespace, or in an unnamed one inside it. No two versions then share a name.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

#ifndef MASKFORMER_EXT_VARIANT
#ifdef __CUDACC__
#define MASKFORMER_EXT_VARIANT cuda
#else
#define MASKFORMER_EXT_VARIANT baseline
#endif
#endif

namespace maskformer_ext {

enum class CpuLevel : int { baseline = 0, avx2 = 1, avx512 = 2 };

inline CpuLevel detect_cpu_level() {
  int level = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    level = 1;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      level = 2;
    }
  }
  if (const char* asked = std::getenv("MASKFORMER_EXT_CPU")) {  // narrows, never widens
    if (std::strcmp(asked, "baseline") == 0) level = 0;
    if (std::strcmp(asked, "avx2") == 0 && level > 1) level = 1;
  }
#endif
  return static_cast<CpuLevel>(level);
}

// The instruction set in use, found once when first asked for.
inline CpuLevel cpu_level() {
  static const CpuLevel level = detect_cpu_level();
  return level;
}

inline const char* cpu_level_name() {
  constexpr const char* names[] = {"baseline", "avx2", "avx512"};
  return names[static_cast<int>(cpu_level())];
}

template <class Signature>
struct CpuKernel;

// The versions of one kernel; calling it calls the version for cpu_level().
template <class... Args>
struct CpuKernel<void(Args...)> {
  using Function = void (*)(Args...);
  Function versions[3];
  void operator()(Args... args) const { versions[static_cast<int>(cpu_level())](args...); }
};

}  // namespace maskformer_ext

// Used at namespace maskformer_ext. A kernel returns void; its arguments are written as in a function declaration.
#if defined(__x86_64__)
#define MASKFORMER_EXT_CPU_KERNEL(name, ...)                             \
  namespace baseline {                                                   \
  void name(__VA_ARGS__);                                                \
  }                                                                      \
  namespace avx2 {                                                       \
  void name(__VA_ARGS__);                                                \
  }                                                                      \
  namespace avx512 {                                                     \
  void name(__VA_ARGS__);                                                \
  }                                                                      \
  inline constexpr ::maskformer_ext::CpuKernel<void(__VA_ARGS__)> name { \
    {                                                                    \
      baseline::name, avx2::name, avx512::name                           \
    }                                                                    \
  }
#else
#define MASKFORMER_EXT_CPU_KERNEL(name, ...)                             \
  namespace baseline {                                                   \
  void name(__VA_ARGS__);                                                \
  }                                                                      \
  inline constexpr ::maskformer_ext::CpuKernel<void(__VA_ARGS__)> name { \
    {                                                                    \
      baseline::name, baseline::name, baseline::name                     \
    }                                                                    \
  }
#endif
