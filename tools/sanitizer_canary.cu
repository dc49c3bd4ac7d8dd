// Two planted mistakes, which compute-sanitizer must find with the options that gpu_check.py gives it: a filter that
// matches no kernel would otherwise look like a clean run.
#include <cstdio>
#include <cstring>

namespace maskformer_ext {

__global__ void write_out_of_bounds_kernel(float* values, int count) { values[count + threadIdx.x] = 1.0f; }

__global__ void race_kernel(float* values) {
  __shared__ float shared[64];
  shared[threadIdx.x] = values[threadIdx.x];
  // Without a barrier: the second warp's words may not be there yet.
  values[threadIdx.x] = shared[63 - threadIdx.x];
}

}  // namespace maskformer_ext

int main(int argc, char** argv) {
  const bool race = argc > 1 && std::strcmp(argv[1], "racecheck") == 0;
  float* values = nullptr;
  if (cudaMalloc(&values, 64 * sizeof(float)) != cudaSuccess) return 2;
  if (race) {
    maskformer_ext::race_kernel<<<1, 64>>>(values);
  } else {
    maskformer_ext::write_out_of_bounds_kernel<<<1, 64>>>(values, 64);
  }
  std::printf("%s\n", cudaGetErrorString(cudaDeviceSynchronize()));
  return 0;
}
