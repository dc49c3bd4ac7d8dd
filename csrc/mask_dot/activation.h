// The activations that mask_dot applies to a logit. attention_mask has the last one. It takes NaN as not negative.
#pragma once

#include <cstdint>

namespace maskformer_ext {

enum class MaskDotActivation : int32_t { none, sigmoid, binary, not_negative };

}  // namespace maskformer_ext
