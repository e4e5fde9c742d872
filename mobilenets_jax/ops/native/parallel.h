// A loop whose turns run on the threads that XLA computes with.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "xla/ffi/api/ffi.h"

// Calls `turn(i)` for all i < `count`, in any order, and returns when all are done.
//
// The caller takes turns too, and waits only for turns that another thread has begun. So it ends even if no other thread
// of the pool is free, for instance since all of them stand in this function.
inline void parallel_for(xla::ffi::ThreadPool& pool, int64_t count, std::function<void(int64_t)> turn) {
  struct State {
    std::function<void(int64_t)> turn;
    int64_t count;
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable all_done;

    void work() {
      for (int64_t i; (i = next.fetch_add(1)) < count;) {
        turn(i);
        if (done.fetch_add(1) + 1 == count) {
          std::lock_guard<std::mutex> lock(mutex);
          all_done.notify_all();
        }
      }
    }
  };
  if (count == 1) return turn(0);
  auto state = std::make_shared<State>();
  state->turn = std::move(turn);
  state->count = count;
  const int64_t helpers = std::min<int64_t>(count, pool.num_threads()) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule([state] { state->work(); });
  state->work();
  // What the others have begun is mostly over soon: sooner than a sleeping thread wakes up.
  for (int i = 0; i < 2000 && state->done != state->count; ++i) std::this_thread::yield();
  if (state->done == state->count) return;
  std::unique_lock<std::mutex> lock(state->mutex);
  state->all_done.wait(lock, [&] { return state->done == state->count; });
}

// The i-th of `parts` nearly equal parts of [0, count).
struct Part {
  Part(int64_t i, int64_t parts, int64_t count) : begin(i * count / parts), end((i + 1) * count / parts) {}
  const int64_t begin, end;
};
