// What mask_dot makes of a logit.
#pragma once

#include <cstdint>

namespace maskformer_ext {

enum class MaskDotActivation : int32_t { none, sigmoid, binary };

}  // namespace maskformer_ext
