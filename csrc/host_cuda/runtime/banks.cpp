// Bank conflicts, by place in the code.
#include "host_cuda/banks.h"

#include <dlfcn.h>

#include <array>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "host_cuda/fibers.h"
#include "host_cuda/options.h"

namespace host_cuda {
namespace {

constexpr int64_t kNone = -1;
constexpr size_t kMostVisits = 64;  // of one place by a warp, in a block: loops repeat themselves

// What the lanes of a warp touch at one place of the code: at their first visit, at their second ...
struct Visits {
  int bytes = 4;
  std::array<size_t, kWarp> count{};
  std::vector<std::array<int64_t, kWarp>> offsets;
};
std::map<std::pair<const void*, int>, Visits> block_visits;  // by place and warp

struct Total {
  uint64_t accesses = 0, wavefronts = 0, least = 0;  // least: without any conflict
};
std::map<const void*, Total> totals;

void add_visit(const std::array<int64_t, kWarp>& offsets, int bytes, Total& total) {
  const int lanes_at_once = bytes <= 4 ? kWarp : 128 / bytes;  // the hardware takes at most 128 bytes at a time
  ++total.accesses;
  for (int first = 0; first < kWarp; first += lanes_at_once) {
    std::set<int64_t> words[32];
    size_t turns = 0;
    for (int lane = first; lane < first + lanes_at_once; ++lane) {
      if (offsets[lane] == kNone) continue;
      for (int64_t word = offsets[lane] / 4; word <= (offsets[lane] + bytes - 1) / 4; ++word) {
        words[word % 32].insert(word);
        turns = std::max(turns, words[word % 32].size());
      }
    }
    total.wavefronts += turns;
    total.least += turns > 0;
  }
}

}  // namespace

void note_access(const void* site, int64_t offset, int bytes) {
  if (!options().banks) return;
  const int thread = block().thread(), lane = thread % kWarp;
  Visits& visits = block_visits[{site, thread / kWarp}];
  visits.bytes = bytes;
  const size_t visit = visits.count[lane]++;
  if (visit >= kMostVisits) return;
  if (visit >= visits.offsets.size()) {
    visits.offsets.emplace_back();
    visits.offsets.back().fill(kNone);
  }
  visits.offsets[visit][lane] = offset;
}

void count_banks_of_block() {
  for (const auto& [place, visits] : block_visits) {
    for (const auto& offsets : visits.offsets) add_visit(offsets, visits.bytes, totals[place.first]);
  }
  block_visits.clear();
}

}  // namespace host_cuda

// Returns a line per place in the code and begins anew. A line has four numbers: the address in the library, accesses
// of a warp, wavefronts, and wavefronts without conflicts.
extern "C" __attribute__((visibility("default"))) const char* host_cuda_banks() {
  static std::string text;
  text.clear();
  for (const auto& [site, total] : host_cuda::totals) {
    Dl_info library = {};
    dladdr(site, &library);
    const auto address = static_cast<const char*>(site) - static_cast<const char*>(library.dli_fbase);
    text += std::to_string(address) + " " + std::to_string(total.accesses) + " " + std::to_string(total.wavefronts) +
            " " + std::to_string(total.least) + "\n";
  }
  host_cuda::totals.clear();
  return text.c_str();
}
