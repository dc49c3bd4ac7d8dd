// Copies an operand of a product's tile to shared memory, a stage at a time, whatever its alignment.
//
// Where 16 contiguous bytes may be read at every multiple of 16 bytes' worth of elements, they are copied
// asynchronously. Otherwise floats are copied asynchronously one by one. Elements of 16 bits cannot be. A thread reads
// the two aligned blocks of 16 bytes that hold its elements, and shifts them in registers. That takes about as long as
// the asynchronous copy where it is spread over the products of a stage.
#pragma once

#include <cstdint>

#include "common/cuda_mma.cuh"

namespace maskformer_ext::cuda {

constexpr int kTileThreads = 256;  // eight warps, two by four, each with 64 rows and 32 columns
constexpr int kTileLines = 128;

// One operand of a tile. Element (line, term) is data[line * line_stride + term * term_stride], and one of the strides
// is 1. Lines from `lines` on do not exist.
template <class Storage>
struct TileOperand {
  const Storage* data;
  const Storage* end;  // nothing is read from there on
  int64_t line_stride, term_stride;
  int lines;
  bool aligned;  // 16 contiguous bytes may be read from every multiple of 16 bytes' worth of elements
};

// An operand whose lines have one stride, with `terms` terms.
template <class Storage>
__host__ __device__ TileOperand<Storage> tile_operand(const void* data, int64_t line_stride, int64_t term_stride,
                                                      int lines, int terms, bool aligned) {
  const auto* first = static_cast<const Storage*>(data);
  const int64_t last = (lines - 1) * line_stride + (terms - 1) * term_stride;
  return {first, first + (lines > 0 && terms > 0 ? last + 1 : 0), line_stride, term_stride, lines, aligned};
}

// The first element of a line.
template <class Storage>
struct LineOf {
  const TileOperand<Storage>& operand;
  __device__ const Storage* operator()(int line) const { return operand.data + line * operand.line_stride; }
};

// Whether all reads of 16 bytes from an operand are aligned and end inside it.
template <class Storage>
bool reads_aligned(const void* data, int64_t contiguous, int64_t stride) {
  constexpr int64_t kElements = 16 / sizeof(Storage);
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && contiguous % kElements == 0 && stride % kElements == 0;
}

// The 16 bytes that begin at a multiple of 16. Elements from `end` on are zeros, and are not read.
template <class Storage>
__device__ __forceinline__ uint4 load_block(const Storage* from, const Storage* end) {
  static_assert(sizeof(Storage) == 2);
  if (end - from >= 8) return *reinterpret_cast<const uint4*>(from);
  uint32_t words[4] = {};
#pragma unroll 1
  for (int e = 7; e >= 0; --e) {  // a loop that is short: few blocks lie at the end
    for (int w = 3; w > 0; --w) words[w] = words[w] << 16 | words[w - 1] >> 16;
    words[0] = words[0] << 16 | (from + e < end ? from[e] : 0u);
  }
  return {words[0], words[1], words[2], words[3]};
}

// A chunk in registers: the two aligned blocks that hold it, and where in them it begins, in elements.
struct FetchedChunk {
  uint4 low, high;
  int shift;
};

// Chunks of 16 contiguous bytes, of which a thread copies kChunks per stage. kAllAligned says that the operand is.
template <class Storage, bool kTermsContiguous, bool kAllAligned>
class TileLoader {
 public:
  static constexpr int kVector = 16 / sizeof(Storage);
  static constexpr int kTerms = 64 / sizeof(Storage);
  static constexpr int kPitch = kTermsContiguous ? kTerms + kVector : kTileLines + 8;  // no two rows on the same banks
  static constexpr int kSize = kPitch * (kTermsContiguous ? kTileLines : kTerms);      // a stage
  static constexpr int kChunks = kTileLines * kTerms / kVector / kTileThreads;
  static constexpr bool kShifts = !kAllAligned && sizeof(Storage) == 2;  // the operand may need fetch and put

  // Where an element lies in a stage.
  static __device__ __forceinline__ constexpr int place(int line, int term) {
    return kTermsContiguous ? line * kPitch + term : term * kPitch + line;
  }

  // `row(line)` is the first element of a line, so that lines need not have one stride. `begin` is the first term.
  template <class Row>
  __device__ TileLoader(const TileOperand<Storage>& operand, int first_line, int begin, Row&& row)
      : advance_(kTerms * operand.term_stride), end_(operand.end), aligned_(operand.aligned) {
    constexpr int kAcross = (kTermsContiguous ? kTerms : kTileLines) / kVector;  // chunks side by side
    const int across = static_cast<int>(threadIdx.x) % kAcross * kVector,
              down = static_cast<int>(threadIdx.x) / kAcross;
    const int line = kTermsContiguous ? down : across;
    term_ = kTermsContiguous ? across : down;
    place_ = place(line, term_);
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int number = first_line + line + i * kLineStep;
      left_[i] = operand.lines - number;
      from_[i] = left_[i] > 0 ? row(number) + (begin + term_ + i * kTermStep) * operand.term_stride : operand.data;
    }
  }

  // Whether chunks are copied by `load`, or else by `fetch` and `put`.
  __device__ __forceinline__ bool asynchronous() const { return !kShifts || aligned_; }

  // Begins to copy the next stage to to[begin ...]. `terms` of its terms are left, further ones become zeros.
  template <class Shared>
  __device__ __forceinline__ void load(Shared& to, int begin, int terms) {
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int at = begin + place_ + i * kPlaceStep;
      if (kAllAligned || aligned_) {
        copy_async(to, at, from_[i], exists(i, terms));
      } else if constexpr (sizeof(Storage) == 4) {
#pragma unroll
        for (int e = 0; e < kVector; ++e) {
          copy_element_async(to, at + e, from_[i] + e, exists(i, terms) && e < contiguous(i, terms));
        }
      }
      from_[i] += advance_;
    }
  }

  // Reads chunk i of the next stage.
  __device__ __forceinline__ FetchedChunk fetch(int i, int terms) {
    FetchedChunk fetched = {};
    if (exists(i, terms)) {
      fetched.shift = static_cast<int>(reinterpret_cast<uintptr_t>(from_[i]) % 16 / sizeof(Storage));
      const Storage* block = from_[i] - fetched.shift;
      fetched.low = load_block(block, end_);
      if (fetched.shift + min(kVector, contiguous(i, terms)) > kVector)
        fetched.high = load_block(block + kVector, end_);
    }
    from_[i] += advance_;
    return fetched;
  }

  // Writes it to to[begin ...].
  template <class Shared>
  __device__ __forceinline__ void put(Shared& to, int begin, int i, int terms, const FetchedChunk& fetched) const {
    uint32_t words[8] = {fetched.low.x,  fetched.low.y,  fetched.low.z,  fetched.low.w,
                         fetched.high.x, fetched.high.y, fetched.high.z, fetched.high.w};
#pragma unroll
    for (int bit = 4; bit >= 2; bit /= 2) {  // by whole words
#pragma unroll
      for (int w = 0; w + bit / 2 < 8; ++w) words[w] = fetched.shift & bit ? words[w + bit / 2] : words[w];
    }
    uint32_t chunk[4];
#pragma unroll
    for (int w = 0; w < 4; ++w) {  // by half a word
      chunk[w] = static_cast<uint32_t>((uint64_t{words[w + 1]} << 32 | words[w]) >> (fetched.shift % 2 * 16));
    }
    if (kTermsContiguous && contiguous(i, terms) < kVector) {  // what follows a line must not count
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        const int left = contiguous(i, terms) - 2 * w;
        chunk[w] &= left >= 2 ? 0xffffffffu : left == 1 ? 0xffffu : 0u;
      }
    }
    put_words(to, begin + place_ + i * kPlaceStep, chunk);
  }

 private:
  // From one chunk of a thread to the next.
  static constexpr int kLineStep = kTermsContiguous ? kTileLines / kChunks : 0;
  static constexpr int kTermStep = kTermsContiguous ? 0 : kTerms / kChunks;
  static constexpr int kPlaceStep = place(kLineStep, kTermStep);

  __device__ __forceinline__ bool exists(int i, int terms) const {
    return left_[i] > 0 && term_ + i * kTermStep < terms;
  }
  // How many contiguous elements exist from a chunk's first on.
  __device__ __forceinline__ int contiguous(int i, int terms) const {
    return kTermsContiguous ? terms - term_ : left_[i];
  }

  const Storage* from_[kChunks];
  int64_t advance_;  // per stage
  const Storage* end_;
  int left_[kChunks];  // lines from a chunk's own on
  int term_, place_;   // of the first chunk, in a stage
  bool aligned_;
};

}  // namespace maskformer_ext::cuda
