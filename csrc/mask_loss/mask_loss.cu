// The CUDA kernel that sweeps the target rows, for mask_loss and matched_mask_loss.
#include "common/cuda_block.cuh"
#include "mask_loss/logit_group.cuh"
#include "mask_loss/pixel_loss.cuh"
#include "mask_loss/target_group.cuh"

namespace maskformer_ext {
namespace cuda {
namespace {

using Params = MaskLossCudaParams;
constexpr int kMaps = 3;
constexpr int kSums = kMaskLossSums;
constexpr int kGroup = kMaskLossGroup;
constexpr int kMostThreads = MaskLossChunks::kMostThreads;
constexpr int kMostWarps = kMostThreads / 32;
constexpr int kRunRows = kFloatRun / kGroup;  // target rows whose terms are added as floats

__device__ __forceinline__ void add(CellPart& sum, const CellPart& part) {
  for (int map = 0; map < kMaps; ++map) sum.maps[map] += part.maps[map];
}

// A thread's own elements of an array in shared memory.
template <class Totals>
__device__ __forceinline__ void add_to_totals(Totals& totals, RunSums& sums) {
  const int tid = threadIdx.x;
  totals[kSumFocal * kMostThreads + tid] += sums.focal;
  totals[kSumWrong * kMostThreads + tid] += sums.wrong;
  totals[kSumWrongInside * kMostThreads + tid] += sums.wrong_inside;
  totals[kSumInside * kMostThreads + tid] += sums.inside;
  sums = {};
}

// Blocks per processor: 80 registers per thread, or 128 where 80 would be too few.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int kBlocks = 2;
#else
constexpr int kBlocks = 3;
#endif

template <Gamma mode, bool kValues, bool kAligned, bool kGrad>
__global__ void __launch_bounds__(kMostThreads, kBlocks) mask_loss_sweep_kernel(Params p) {
  MASKFORMER_EXT_SHARED(CellPart, before, kMostThreads);               // of the columns before the cells
  MASKFORMER_EXT_SHARED(CellPart, centre, kMostThreads);               // of their own columns
  MASKFORMER_EXT_SHARED(CellPart, after, kMostThreads);                // of the columns behind them
  MASKFORMER_EXT_SHARED(int, first_rows, Params::kMostStripRows + 1);  // of the strip's rows of logits, and the next
  MASKFORMER_EXT_SHARED(double, totals, kSums* kMostThreads);          // every thread uses only its own
  MASKFORMER_EXT_SHARED(double, parts, kSums* kMostWarps);
  const int tid = threadIdx.x, threads = p.chunks.threads, cell_groups = p.chunks.cell_groups;
  const int strips = p.strips(), chunks = p.chunks.count;
  const int chunk = blockIdx.x % chunks, strip = blockIdx.x / chunks % strips;
  const int mask = static_cast<int>(blockIdx.x / (static_cast<unsigned>(chunks) * strips));
  const int begin_row = strip * p.strip_rows, end_row = min(begin_row + p.strip_rows, p.height);
  const int begin_column = chunk * p.chunks.columns, end_column = min(begin_column + p.chunks.columns, p.width);
  const int begin_cell = max(begin_column - 1, 0), end_cell = min(end_column + 1, p.width);
  const int groups = (end_cell - begin_cell) * cell_groups;
  const bool direct = cell_groups == 1 && groups <= threads;
  const int64_t map_stride = int64_t{p.height} * p.width;
  const int64_t logits = mask * p.logits_mask_stride;
  if (tid <= p.strip_rows) first_rows[tid] = first_with_lower(begin_row + tid, p.height, p.target_height);
  for (int i = 0; i < kSums; ++i) totals[i * kMostThreads + tid] = 0.0;
  __syncthreads();

  for (int piece = 0; piece < groups; piece += threads) {
    const MaskTarget target = mask_target(p, mask);
    const int group = piece + tid, cell = min(begin_cell + group / cell_groups, p.width - 1);
    const bool exists = begin_cell + group / cell_groups < end_cell;
    const bool counted = exists && cell >= begin_column && cell < end_column;  // else another block counts it
    GroupPlace place;
    place.x = cell_begin(cell, p.width, p.target_width) + group % cell_groups * kGroup;
    place.exist = exists ? min(cell_begin(cell + 1, p.width, p.target_width) - place.x, kGroup) : 0;
    const GroupTaps taps = group_taps(p, cell, place.x);
    place.x = min(place.x, p.target_width - (kAligned ? kGroup : 1));
    place.left_out = 0;
    for (int k = 0; k < kGroup; ++k) place.left_out |= k < place.exist ? 0 : 1u << 8 * k;

    float lower[kGroup], upper[kGroup];                         // the rows of logits around a target row
    float here[kMaps][kGroup] = {}, below[kMaps][kGroup] = {};  // what the pixels add to these rows of the maps
    RunSums sums;
    int runs = 0;
    unsigned inside = 0, pixels = 0;
    bool held = false;  // whether `upper` is the next row of logits
    int y = first_rows[0];
    int64_t from = target.plane + y * p.target_row_stride;
    for (int row = begin_row; row <= end_row && row < p.height; ++row) {
      const int end_y = target.paired && row < end_row ? first_rows[row - begin_row + 1] : y;
      if (y < end_y) {
        for (int k = 0; k < kGroup; ++k) lower[k] = upper[k];
        if (!held) resize_row(p, logits + row * p.logits_row_stride, taps, lower);
        resize_row(p, logits + min(row + 1, p.height - 1) * p.logits_row_stride, taps, upper);
      }
      held = y < end_y;
      const float unit = row < p.height - 1 ? p.row_unit : 0.0f;
      int offset = (2 * y + 1) * p.height - p.target_height - 2 * p.target_height * row;  // from `row`, times 1 / unit
      while (y < end_y) {
        const int end_run = min(end_y, y + kRunRows);
        pixels += kGroup * (end_run - y);
        RunSums run;
        for (; y < end_run; ++y) {
          const float weight = static_cast<float>(max(offset, 0)) * unit;
          GroupFlags flags = group_flags<kValues, kAligned>(p, target, from, y, place);
          float values[kGroup] = {};
          if (kValues) group_values(p, from, place, values);
          from += p.target_row_stride;
          offset += 2 * p.height;
          float v[kGroup];
          for (int k = 0; k < kGroup; ++k) v[k] = blend(lower[k], upper[k], weight);
          if (flags.left_out != 0) {
            pixels -= count_bytes(flags.left_out);
            leave_out(flags, v, values);
          }
          inside += count_bytes(flags.inside);
          add_group<mode, kValues, kGrad>(p, flags.inside, values, v, weight, run, here, below);
        }
        sums.add(run);
        if (++runs % kFloatRun == 0 && counted) add_to_totals(totals, sums);
      }
      if constexpr (kGrad) {
        __syncthreads();  // the row before was taken
        CellPart own_before, own_centre, own_after;
        cell_parts(taps, here, own_before, own_centre, own_after);
        before[tid] = own_before;
        after[tid] = own_after;
        if (!direct) centre[tid] = own_centre;
        for (int map = 0; map < kMaps; ++map) {
          for (int k = 0; k < kGroup; ++k) {
            here[map][k] = below[map][k];
            below[map][k] = 0.0f;
          }
        }
        __syncthreads();
        float* to = p.maps + mask * kMaps * map_stride + int64_t{row} * p.width;
        int64_t stride = map_stride;
        if (row == end_row) {
          to = p.edges + (int64_t{mask} * strips + strip) * kMaps * p.width;
          stride = p.width;
        }
        if (direct) {  // the thread has a column of its own, that of its cell
          if (!counted) continue;
          CellPart sum = own_centre;
          if (cell > 0) add(sum, after[tid - 1]);
          if (cell < p.width - 1) add(sum, before[tid + 1]);
          for (int map = 0; map < kMaps; ++map) to[map * stride + cell] = sum.maps[map];
          continue;
        }
        for (int column = begin_column + tid; column < end_column; column += threads) {
          CellPart sum = {};
          const auto take = [&](auto& parts, int from_cell) {
            const int first = (from_cell - begin_cell) * cell_groups - piece, end = min(first + cell_groups, threads);
#pragma unroll 1
            for (int i = max(first, 0); i < end; ++i) add(sum, parts[i]);
          };
          if (column > 0) take(after, column - 1);
          take(centre, column);
          if (column < p.width - 1) take(before, column + 1);
          for (int map = 0; map < kMaps; ++map) {
            float& result = to[map * stride + column];
            result = piece == 0 ? sum.maps[map] : result + sum.maps[map];
          }
        }
      }
    }
    if (counted) {
      add_to_totals(totals, sums);
      totals[kSumPixels * kMostThreads + tid] += pixels;
      if (!kValues) totals[kSumInside * kMostThreads + tid] += inside;
    }
  }
  for (int i = 0; i < kSums; ++i) {
    const double total = warp_sum<double>(totals[i * kMostThreads + tid]);
    if (tid % 32 == 0) parts[i * kMostWarps + tid / 32] = total;
  }
  __syncthreads();
  if (tid >= kSums) return;
  double total = 0.0;
  for (int warp = 0; warp < threads / 32; ++warp) total += parts[tid * kMostWarps + warp];
  p.sums[int64_t{blockIdx.x} * kSums + tid] = total;
}

template <bool kValues, bool kAligned, bool kGrad>
void launch_sweep(const Params& params, unsigned blocks, CUstream_st* stream) {
  const auto run = [&](auto* kernel) { launch(kernel, blocks, params.chunks.threads, stream, params); };
  if (params.gamma == 2.0f) {
    run(mask_loss_sweep_kernel<Gamma::two, kValues, kAligned, kGrad>);
  } else if (params.gamma == 0.0f) {
    run(mask_loss_sweep_kernel<Gamma::zero, kValues, kAligned, kGrad>);
  } else {
    run(mask_loss_sweep_kernel<Gamma::general, kValues, kAligned, kGrad>);
  }
}

template <bool kGrad>
void launch_sweep(const Params& params, unsigned blocks, CUstream_st* stream) {
  if (!params.is_map && params.target_dtype != DType::uint8) {
    launch_sweep<true, false, kGrad>(params, blocks, stream);
  } else if (params.aligned) {
    launch_sweep<false, true, kGrad>(params, blocks, stream);
  } else {
    launch_sweep<false, false, kGrad>(params, blocks, stream);
  }
}

}  // namespace
}  // namespace cuda

void mask_loss_fwd_cuda(const MaskLossCudaParams& params, CUstream_st* stream) {
  using namespace cuda;
  if (params.masks == 0) return;
  const auto blocks = static_cast<unsigned>(params.strips()) * params.chunks.count * params.masks;
  if (params.maps != nullptr) {
    launch_sweep<true>(params, blocks, stream);
  } else {
    launch_sweep<false>(params, blocks, stream);
  }
  mask_loss_finish_cuda(params, stream);
}

}  // namespace maskformer_ext
