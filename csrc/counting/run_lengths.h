// Run lengths of masks that are bits, and of maps of ids. A C interface, which Python calls through ctypes: it takes
// NumPy's memory as it is, and belongs to no version of Python or of torch.
#pragma once

#include <cstdint>

#define MASKFORMER_EXT_C extern "C" __attribute__((visibility("default")))

// Writes masks as COCO's compressed text: runs down the columns, outside first (pycocotools' rleToString).
//   bits: (count, height, ceil(width / 8)), eight pixels per byte, the lowest bit leftmost
//   boxes: (count, 4), x0 y0 x1 y1 half-open; a mask is empty outside
//   offsets: (count + 1) out, where each text begins and ends
// Returns what `maskformer_ext_mask_texts_take` gets, or null where memory is short.
MASKFORMER_EXT_C void* maskformer_ext_mask_texts(const uint8_t* bits, const int64_t* boxes, int64_t count,
                                                 int64_t height, int64_t width, int64_t* offsets);

// Copies the texts, offsets[count] characters; frees them.
MASKFORMER_EXT_C void maskformer_ext_mask_texts_take(void* texts, char* to);

// Paints masks over each other in their order.
//   bits: (queries, height, ceil(width / 8))
//   order: (count) which masks
//   rows, columns: (height), (width); a mask that has none of the pixels where both are 1 is left out
//   map: (height, width), becomes the place of the last mask among those that are not left out, -1 where there is none
//   kept: (count) out, 0 for masks that are left out
MASKFORMER_EXT_C void maskformer_ext_paint_masks(const uint8_t* bits, const int64_t* order, int64_t count,
                                                 int64_t height, int64_t width, const uint8_t* rows,
                                                 const uint8_t* columns, int32_t* map, uint8_t* kept);

// Lists the runs of equal ids, row by row, of a map that is resized by nearest neighbour.
//   map: (.., width)
//   rows, columns: (out_height), (out_width), the row and the column of the map of each of the output
//   values, numbers: become how many ids there are, and how many numbers `maskformer_ext_row_runs_take` writes
// Returns what `maskformer_ext_row_runs_take` gets, or null where memory is short.
MASKFORMER_EXT_C void* maskformer_ext_row_runs(const int32_t* map, int64_t width, const int64_t* rows,
                                               int64_t out_height, const int64_t* columns, int64_t out_width,
                                               int64_t* values, int64_t* numbers);

// Writes the ids, how many numbers each has, and the numbers: start from 1 and length of each run. Frees the runs.
MASKFORMER_EXT_C void maskformer_ext_row_runs_take(void* runs, int32_t* values, int64_t* counts, int64_t* numbers);
