// Shared memory of the host stand-in, which checks every access.
//
// These end the launch:
//
// - an index out of range
// - a read of what nobody wrote
// - a read or write with no barrier after another thread's
// - a read or write while an asynchronous copy is under way to the same place
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#include "host_cuda/banks.h"
#include "host_cuda/fibers.h"

// The stand-in's own code: its accesses are not those of a kernel (global_memory.h). Never inlined, since the compiler
// would instrument it in its caller.
#define HOST_CUDA_OWN __attribute__((no_sanitize("thread"), noinline))
#define HOST_CUDA_INLINE inline __attribute__((always_inline))

namespace host_cuda {

template <class T, int N>
class SharedArray {
  struct Word {
    T value;
    uint64_t block = 0;    // stamp of the block that wrote it; 0: none
    uint64_t copy_to = 0;  // stamp of the block that has a copy to it under way
    int writer = -1, reader = -1;
    bool many_readers = false;
    uint64_t write_epoch = 0, write_warp_epoch = 0, read_epoch = 0, read_warp_epoch = 0;
  };

 public:
  class Ref {
   public:
    HOST_CUDA_INLINE Ref(SharedArray& array, int64_t index) : array_(array), index_(index) {}
    HOST_CUDA_INLINE operator T() const { return array_.read(index_); }
    HOST_CUDA_INLINE Ref& operator=(T value) {
      array_.write(index_, value);
      return *this;
    }
    HOST_CUDA_INLINE Ref& operator=(const Ref& other) { return *this = static_cast<T>(other); }
    HOST_CUDA_INLINE Ref& operator+=(T value) { return *this = static_cast<T>(*this) + value; }
    HOST_CUDA_INLINE Ref& operator|=(T value) { return *this = static_cast<T>(*this) | value; }
    HOST_CUDA_INLINE T add(T value) { return array_.add(index_, value); }
    friend T atomic_add(Ref ref, T value) { return ref.add(value); }

   private:
    SharedArray& array_;
    int64_t index_;
  };

  HOST_CUDA_INLINE Ref operator[](int64_t index) { return Ref(*this, index); }

  // One element, without counting banks: for twins that tell of their accesses by `note_lane`.
  HOST_CUDA_OWN T peek(int64_t index) { return checked_read(at(index)); }
  HOST_CUDA_OWN void poke(int64_t index, T value) {
    Word& word = at(index);
    check_write(word);
    put(word, value);
  }
  HOST_CUDA_OWN void note_lane(int64_t index, int bytes) {
    note_access(__builtin_return_address(0), static_cast<int64_t>(index * sizeof(T)), bytes);
  }

  // Begins an asynchronous copy. Its elements are there once the thread has waited, as if it wrote them then.
  template <int kCount>
  HOST_CUDA_OWN void copy(int64_t index, const T* from, bool exists) {
    note_access(__builtin_return_address(0), static_cast<int64_t>(index * sizeof(T)), kCount * sizeof(T));
    Copy copy{land<kCount>, this, index, exists ? from : nullptr, {}};
    if (exists) std::memcpy(copy.bytes, from, kCount * sizeof(T));
    for (int i = 0; i < kCount; ++i) {
      check_write(at(index + i));
      at(index + i).copy_to = block().stamp;
    }
    block().begin_copy(copy);
  }

 private:
  Word words_[N];

  HOST_CUDA_OWN Word& at(int64_t index) {
    if (index < 0 || index >= N) {
      block().fail("shared array of " + std::to_string(N) + " is indexed with " + std::to_string(index));
    }
    return words_[index];
  }

  HOST_CUDA_OWN T read(int64_t index) {
    note_access(__builtin_return_address(0), static_cast<int64_t>(index * sizeof(T)), sizeof(T));
    return checked_read(at(index));
  }

  HOST_CUDA_OWN void write(int64_t index, T value) {
    note_access(__builtin_return_address(0), static_cast<int64_t>(index * sizeof(T)), sizeof(T));
    poke(index, value);
  }

  // Never races with another atomic.
  HOST_CUDA_OWN T add(int64_t index, T value) {
    Word& word = at(index);
    if (word.block != block().stamp) block().fail("an atomic operation on shared memory that nobody wrote");
    const T before = word.value;
    word.value = before + value;
    return before;
  }

  template <int kCount>
  HOST_CUDA_OWN static void land(const Copy& copy) {
    if (copy.from != nullptr && std::memcmp(copy.bytes, copy.from, kCount * sizeof(T)) != 0) {
      block().fail("what an asynchronous copy reads was changed before the copy was waited for");
    }
    for (int i = 0; i < kCount; ++i) {
      Word& word = static_cast<SharedArray*>(copy.array)->words_[copy.index + i];
      T value;
      std::memcpy(&value, copy.bytes + i * sizeof(T), sizeof(T));
      word.copy_to = 0;
      put(word, value);
    }
  }

  HOST_CUDA_OWN static T checked_read(Word& word) {
    Block& b = block();
    if (word.copy_to == b.stamp) b.fail("shared memory is read while a copy to it is under way");
    if (word.block != b.stamp) b.fail("shared memory is read that nobody wrote");
    if (!b.passed(word.writer, word.write_epoch, word.write_warp_epoch)) {
      b.fail("shared memory is read after another thread's write without a barrier");
    }
    if (word.reader >= 0 && word.reader != b.thread() && word.read_epoch == b.epoch) word.many_readers = true;
    if (word.read_epoch != b.epoch) word.many_readers = false;
    word.reader = b.thread();
    word.read_epoch = b.epoch;
    word.read_warp_epoch = b.warp_epoch[b.thread() / kWarp];
    return word.value;
  }

  HOST_CUDA_OWN static void check_write(Word& word) {
    Block& b = block();
    if (word.copy_to == b.stamp) b.fail("shared memory is written while a copy to it is under way");
    if (word.block != b.stamp) return;
    if (!b.passed(word.writer, word.write_epoch, word.write_warp_epoch)) {
      b.fail("shared memory is written by two threads without a barrier");
    }
    if (word.reader < 0 || word.read_epoch != b.epoch) return;
    const bool after_last = b.passed(word.reader, word.read_epoch, word.read_warp_epoch);
    if (after_last && (!word.many_readers || word.reader / kWarp == b.thread() / kWarp)) return;
    b.fail("shared memory is written after another thread's read without a barrier");
  }

  HOST_CUDA_OWN static void put(Word& word, T value) {
    Block& b = block();
    if (word.block != b.stamp) word = Word{};
    word.value = value;
    word.block = b.stamp;
    word.writer = b.thread();
    word.write_epoch = b.epoch;
    word.write_warp_epoch = b.warp_epoch[b.thread() / kWarp];
    word.reader = -1;
    word.many_readers = false;
  }
};

}  // namespace host_cuda

#define MASKFORMER_EXT_SHARED(type, name, count) static host_cuda::SharedArray<type, count> name
