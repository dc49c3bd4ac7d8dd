#include "counting/counting.h"

#include <map>
#include <new>
#include <utility>

#include "common/cpu_dispatch.h"

namespace {

using Counts = std::map<std::pair<int64_t, int64_t>, int64_t>;

}  // namespace

void maskformer_ext_joint_histogram(const int64_t* rows, const int64_t* columns, int64_t count, int64_t num_columns,
                                    int64_t* histogram) {
  for (int64_t i = 0; i < count; ++i) ++histogram[rows[i] * num_columns + columns[i]];
}

void* maskformer_ext_pair_areas(const int64_t* first, const int64_t* second, int64_t count, int64_t* pairs) {
  Counts* counts = nullptr;
  try {
    counts = new Counts;
    for (int64_t i = 0; i < count;) {  // one look-up per run of equal pairs
      const int64_t start = i;
      while (i < count && first[i] == first[start] && second[i] == second[start]) ++i;
      (*counts)[{first[start], second[start]}] += i - start;
    }
  } catch (const std::bad_alloc&) {  // which must not leave a C function
    delete counts;
    return nullptr;
  }
  *pairs = static_cast<int64_t>(counts->size());
  return counts;
}

void maskformer_ext_pair_areas_take(void* counts, int64_t* first, int64_t* second, int64_t* areas) {
  auto* pairs = static_cast<Counts*>(counts);
  int64_t k = 0;
  for (const auto& [pair, area] : *pairs) {
    first[k] = pair.first;
    second[k] = pair.second;
    areas[k++] = area;
  }
  delete pairs;
}

const char* maskformer_ext_cpu_level() { return maskformer_ext::cpu_level_name(); }

const char* maskformer_ext_compiler() { return MASKFORMER_EXT_CXX_COMPILER; }
