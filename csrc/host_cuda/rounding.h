// Functions that a GPU computes less exactly than the host. They are wrong here by up to what is documented of them, by
// another amount for every argument. Thus a kernel that relies on digits that a GPU does not have is found.
#pragma once

namespace host_cuda {

// A number within `ulps` units in the last place of the exact result, the same each time for the same arguments.
float rounded(double exact, double ulps, float argument, float other = 0.0f);

// The sum of products and of a float, as tensor cores form it. Terms are cut off below the 24 bits of the largest, and
// the sum is cut to a float. Both are always towards zero.
// M. Fasi and others, "Numerical behavior of NVIDIA tensor cores" (2021), found this on an A100.
float tensor_core_sum(float sum, const double* products, int count);

}  // namespace host_cuda
