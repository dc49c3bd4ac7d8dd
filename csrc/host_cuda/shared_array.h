// Shared memory of the host stand-in, which checks every access.
#pragma once

#include "host_cuda/fibers.h"

namespace host_cuda {

template <class T, int N>
class SharedArray {
  struct Word {
    T value;
    uint64_t block = 0;  // stamp of the block that wrote it; 0: none
    int writer = -1, reader = -1;
    bool many_readers = false;
    uint64_t write_epoch = 0, write_warp_epoch = 0, read_epoch = 0, read_warp_epoch = 0;
  };

 public:
  class Ref {
   public:
    Ref(Word& word) : word_(word) {}
    operator T() const { return SharedArray::read(word_); }
    Ref& operator=(T value) {
      SharedArray::write(word_, value);
      return *this;
    }
    Ref& operator=(const Ref& other) { return *this = static_cast<T>(other); }
    Ref& operator+=(T value) { return *this = static_cast<T>(*this) + value; }
    Ref& operator|=(T value) { return *this = static_cast<T>(*this) | value; }
    friend T atomic_add(Ref ref, T value) {  // never races with another atomic
      const bool fresh = ref.word_.block != block().stamp;
      if (fresh) block().fail("an atomic operation on shared memory that nobody wrote");
      const T before = ref.word_.value;
      ref.word_.value = before + value;
      return before;
    }

   private:
    Word& word_;
  };

  Ref operator[](int64_t index) {
    if (index < 0 || index >= N) {
      block().fail("shared array of " + std::to_string(N) + " is indexed with " + std::to_string(index));
    }
    return Ref(words_[index]);
  }

 private:
  Word words_[N];

  static bool passed(int thread, uint64_t epoch, uint64_t warp_epoch) {
    const Block& b = block();
    if (thread == b.thread() || b.epoch > epoch) return true;
    return thread / kWarp == b.thread() / kWarp && b.warp_epoch[b.thread() / kWarp] > warp_epoch;
  }

  static T read(Word& word) {
    Block& b = block();
    if (word.block != b.stamp) b.fail("shared memory is read that nobody wrote");
    if (!passed(word.writer, word.write_epoch, word.write_warp_epoch)) {
      b.fail("shared memory is read after another thread's write without a barrier");
    }
    if (word.reader >= 0 && word.reader != b.thread() && word.read_epoch == b.epoch) word.many_readers = true;
    if (word.read_epoch != b.epoch) word.many_readers = false;
    word.reader = b.thread();
    word.read_epoch = b.epoch;
    word.read_warp_epoch = b.warp_epoch[b.thread() / kWarp];
    return word.value;
  }

  static void write(Word& word, T value) {
    Block& b = block();
    if (word.block == b.stamp) {
      if (!passed(word.writer, word.write_epoch, word.write_warp_epoch)) {
        b.fail("shared memory is written by two threads without a barrier");
      }
      const bool read_before = word.reader >= 0 && word.read_epoch == b.epoch;
      if (read_before && (word.many_readers || !passed(word.reader, word.read_epoch, word.read_warp_epoch)) &&
          !(word.many_readers && passed(word.reader, word.read_epoch, word.read_warp_epoch) && same_warp(word))) {
        b.fail("shared memory is written after another thread's read without a barrier");
      }
    } else {
      word = Word{};
    }
    word.value = value;
    word.block = b.stamp;
    word.writer = b.thread();
    word.write_epoch = b.epoch;
    word.write_warp_epoch = b.warp_epoch[b.thread() / kWarp];
    word.reader = -1;
    word.many_readers = false;
  }

  static bool same_warp(const Word& word) { return word.reader / kWarp == block().thread() / kWarp; }
};

}  // namespace host_cuda

#define MASKFORMER_EXT_SHARED(type, name, count) static host_cuda::SharedArray<type, count> name
