// Semantic inference on a GPU: what the launchers take. Torch-free.
//
// Labels come from a product of probabilities in float16 on tensor cores. Pixels whose best two classes lie within its
// error bound are done again in float32. Scores are products in float32. Both leave out queries without any class
// probability; those that are not finite have none. Only the device knows how many these are.
#pragma once

#include "common/mask_source_cuda.h"

struct CUstream_st;  // *cudaStream_t

namespace maskformer_ext {

// All pointers are to device memory.
struct SemanticCudaParams {
  CudaMasks masks;           // its queries and kept are those below
  const float* probability;  // (Q, K) contiguous
  int queries, classes;      // Q, K
  int* kept;                 // () how many queries have a probability
  int* query;                // (Q,) which, in order
  float* most;               // (Q,) the largest probability of each of the Q queries

  // For labels.
  static constexpr int kStep = 16;  // queries, and classes, of a fragment
  void* fragments;                  // (steps, class_tiles, 32 lanes, 16 bytes) workspace: probabilities in float16
  int steps, class_tiles;           // of all queries; a multiple of tiles_of_block(classes)
  int64_t* labels;                  // (masks.out_height, masks.out_width) out

  // For scores of rows [first_row, first_row + rows) and the first `columns` columns of the grid.
  float* scores;  // (K, rows, columns): class k begins at k * class_stride
  int64_t class_stride;
  float weight;     // factor of the scores
  bool accumulate;  // add to what is there
  int first_row, rows, columns;

  // Fragments of classes that a block of labels holds at once.
  static constexpr int tiles_of_block(int64_t classes) { return classes <= 32 ? 2 : classes <= 64 ? 4 : 10; }
};

// Planes of class scores at the network input, resized to rows [first_row, first_row + rows) of the output.
struct SemanticResizeCudaParams {
  const float* planes;  // (K, band_rows, band_columns), which begin with row band_row of the network input
  int band_row, band_rows, band_columns;
  const AxisTaps *row_taps, *column_taps;  // from the network input to the output
  int classes, first_row, rows, out_height, out_width;
  int64_t* labels;  // (out_height, out_width) out, or null
  float* scores;    // (K, out_height, out_width) added to where labels is null
  float weight;
};

// Lists the queries that count. Comes before the launchers below.
void semantic_queries_cuda(const SemanticCudaParams& params, CUstream_st* stream);
void semantic_labels_cuda(const SemanticCudaParams& params, CUstream_st* stream);
void semantic_scores_cuda(const SemanticCudaParams& params, CUstream_st* stream);
void semantic_resize_cuda(const SemanticResizeCudaParams& params, CUstream_st* stream);

}  // namespace maskformer_ext
