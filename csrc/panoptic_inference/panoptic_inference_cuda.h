// Panoptic inference on a GPU: what the launcher takes. Torch-free.
//
// There are four kernels, and the host learns nothing between them:
//
// - which queries are kept
// - the winner of every pixel, and how many pixels each query wins and has
// - which queries become segments
// - the segments' ids in place of the winners
#pragma once

#include "common/mask_source_cuda.h"
#include "panoptic_inference/panoptic_inference.h"

struct CUstream_st;  // *cudaStream_t

namespace maskformer_ext {

// One bit per class. The kernel takes it by value, since nothing is copied to the device.
struct ThingClasses {
  static constexpr int kMost = 16384;
  uint32_t bits[kMost / 32];

  constexpr bool contains(int category) const {
    return category < kMost && (bits[category / 32] >> (category % 32) & 1u) != 0;
  }
};

// All pointers are to device memory. (Q,) arrays of kept queries are filled up to *kept.
struct PanopticCudaParams {
  enum class Values {
    of_logits,         // resized logits: masks leads to the output
    of_stored,         // the stored logits' probabilities, resized: masks leads to the output
    of_network_input,  // probabilities made at the network input, where masks leads to, then resized
  };
  Values values;
  CudaMasks masks;                 // its queries and kept are those below
  const AxisTaps* output_rows;     // (H,) from the network input to the output, for of_network_input
  const AxisTaps* output_columns;  // (W,)
  int out_height, out_width;       // H, W

  const float* probability;  // (Q, K + 1) contiguous
  int queries, columns;      // Q, K + 1
  float object_mask_threshold, mask_threshold;
  double overlap_threshold;
  bool of_logits;      // with Values::of_logits: without the sigmoid
  bool weighted_area;  // a query has a pixel where probability times score reaches the threshold
  bool paint_own;      // only pixels that their winner has are painted

  int* kept;        // () how many queries are kept
  int* query;       // (Q,) which, in order
  int* category;    // (Q,) their classes
  float* score;     // (Q,) and class probabilities
  int *won, *own;   // (Q,) pixels that they win and have
  int* painted;     // (Q,) pixels that are painted: won, and with paint_own also had
  int* first;       // (Q,) workspace: the first kept query of the same segment, or -1
  int* segment_id;  // (Q,) 0: no segment

  int32_t* segment_map;  // (H, W) out
  double* table;         // (Q, kPanopticColumns) out
  int64_t* count;        // () out: segments
};

void panoptic_inference_cuda(const PanopticCudaParams& params, const ThingClasses& things, CUstream_st* stream);

}  // namespace maskformer_ext
