// What evaluation counts in label maps. A C interface, which Python calls through ctypes: it takes NumPy's memory as it
// is, and belongs to no version of Python or of torch.
#pragma once

#include <cstdint>

#define MASKFORMER_EXT_C extern "C" __attribute__((visibility("default")))

// Counts the pairs of values of two maps.
//   rows, columns: (count) values, each in [0, num_rows) and [0, num_columns)
//   histogram: (num_rows, num_columns), zeros before; entry (i, j) becomes the number of pairs (i, j)
MASKFORMER_EXT_C void maskformer_ext_joint_histogram(const int64_t* rows, const int64_t* columns, int64_t count,
                                                     int64_t num_columns, int64_t* histogram);

// Counts the pairs of values that occur in two maps of `count` values each, whatever the values are.
//   pairs: becomes the number of different pairs
// Returns what `maskformer_ext_pair_areas_take` gets, or null where memory is short.
MASKFORMER_EXT_C void* maskformer_ext_pair_areas(const int64_t* first, const int64_t* second, int64_t count,
                                                 int64_t* pairs);

// Writes the pairs in ascending order, and how often each occurs, into arrays of `pairs` values; frees the counts.
MASKFORMER_EXT_C void maskformer_ext_pair_areas_take(void* counts, int64_t* first, int64_t* second, int64_t* areas);

// The instruction set in use: "baseline", "avx2" or "avx512".
MASKFORMER_EXT_C const char* maskformer_ext_cpu_level();

// What compiled the library, for example "GNU 12.2.0".
MASKFORMER_EXT_C const char* maskformer_ext_compiler();
