// Rounding errors of a GPU.
#include "host_cuda/rounding.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "host_cuda/options.h"

namespace host_cuda {

float rounded(double exact, double ulps, float argument, float other) {
  const auto nearest = static_cast<float>(exact);
  if (!options().rounding || !std::isfinite(nearest) || nearest == 0.0f) return nearest;
  const uint64_t arguments = uint64_t{std::bit_cast<uint32_t>(argument)} << 32 | std::bit_cast<uint32_t>(other);
  Random random(arguments);
  const double share = static_cast<double>(random.below(2001)) / 1000.0 - 1.0;  // -1 to 1
  const double ulp = std::nextafter(std::abs(nearest), INFINITY) - std::abs(nearest);
  return static_cast<float>(exact + share * ulps * ulp);
}

float tensor_core_sum(float sum, const double* products, int count) {
  if (!options().rounding) {
    double exact = sum;
    for (int i = 0; i < count; ++i) exact += products[i];
    return static_cast<float>(exact);
  }
  double largest = std::abs(sum);
  for (int i = 0; i < count; ++i) largest = std::max(largest, std::abs(products[i]));
  if (!std::isfinite(largest) || largest == 0.0) {
    for (int i = 0; i < count; ++i) sum += static_cast<float>(products[i]);
    return sum;
  }
  const double unit = std::ldexp(1.0, std::ilogb(largest) - 24);
  double total = std::trunc(sum / unit);
  for (int i = 0; i < count; ++i) total += std::trunc(products[i] / unit);
  const double exact = total * unit;
  const auto nearest = static_cast<float>(exact);
  return std::abs(nearest) > std::abs(exact) ? std::nextafter(nearest, 0.0f) : nearest;
}

}  // namespace host_cuda
