// Own small kernels, whose machine code the tests of tools/sass read.
__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }

__global__ void __launch_bounds__(128, 4) plain_kernel(const float* in, float* out, int count) {
  float sum = 0.0f;
#pragma unroll 1
  for (int i = threadIdx.x; i < count; i += 128) sum += sigmoid(in[i]);
  out[threadIdx.x] = sum;
}

__global__ void __launch_bounds__(128, 4) unrolled_kernel(const float* in, float* out, int count) {
  float sum = 0.0f;
#pragma unroll 4
  for (int i = threadIdx.x; i < count; i += 128) sum += sigmoid(in[i]);
  out[threadIdx.x] = sum;
}

__global__ void __launch_bounds__(128, 4) doubled_kernel(const float* in, float* out, int count) {
  float sum = 0.0f;
#pragma unroll 1
  for (int i = threadIdx.x; i < count; i += 128) {
    const float x = in[i] * in[count - i];
    const int place = i * 7 % (count - 1);
    sum += sigmoid(x) + static_cast<float>(place);
  }
  out[threadIdx.x] = sum;
}

__global__ void nested_kernel(const float* in, float* out, const int* ends, int rows) {
  for (int row = 0; row < rows; ++row) {
    double sum = 0.0;
#pragma unroll 1
    for (int i = threadIdx.x; i < ends[row]; i += 32) {
      const float x = in[i];
      if (x != 0.0f) sum += x > 0.0f ? 1.0f / x : 0.0f;
    }
    out[row * 32 + threadIdx.x] = static_cast<float>(sum);
  }
}
