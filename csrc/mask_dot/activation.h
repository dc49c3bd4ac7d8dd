// The activations that mask_dot applies to a logit.
#pragma once

#include <cstdint>

namespace maskformer_ext {

enum class MaskDotActivation : int32_t { none, sigmoid, binary };

}  // namespace maskformer_ext
