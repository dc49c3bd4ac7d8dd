// Planted mistakes, one per tool. compute-sanitizer must find them with the options that gpu_check.py gives it. A
// filter that matches no kernel would otherwise look like a clean run.
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

// The last threads of the second warp never come to the barrier.
__global__ void divergent_barrier_kernel(float* values) {
  if (threadIdx.x < 48) __syncthreads();
  values[threadIdx.x] = 1.0f;
}

// Memory that was allocated and never written.
__global__ void read_uninitialized_kernel(float* values) { values[threadIdx.x] += 1.0f; }

}  // namespace maskformer_ext

int main(int argc, char** argv) {
  const char* tool = argc > 1 ? argv[1] : "memcheck";
  float* values = nullptr;
  if (cudaMalloc(&values, 64 * sizeof(float)) != cudaSuccess) return 2;
  if (std::strcmp(tool, "racecheck") == 0) {
    maskformer_ext::race_kernel<<<1, 64>>>(values);
  } else if (std::strcmp(tool, "synccheck") == 0) {
    maskformer_ext::divergent_barrier_kernel<<<1, 64>>>(values);
  } else if (std::strcmp(tool, "initcheck") == 0) {
    maskformer_ext::read_uninitialized_kernel<<<1, 64>>>(values);
  } else {
    maskformer_ext::write_out_of_bounds_kernel<<<1, 64>>>(values, 64);
  }
  std::printf("%s\n", cudaGetErrorString(cudaDeviceSynchronize()));
  return 0;
}
