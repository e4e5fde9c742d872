// A loop whose turns run on the threads that XLA computes with.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "xla/ffi/api/ffi.h"

// The i-th of `parts` nearly equal parts of [0, count).
struct Part {
  Part(int64_t i, int64_t parts, int64_t count) : begin(i * count / parts), end((i + 1) * count / parts) {}
  const int64_t begin, end;
};

// Calls `turn(i)` for all i < `count`, in any order, and returns when all are done.
//
// Every thread begins with a part of the turns of its own and then helps the others. So what a thread has written in
// one loop it mostly reads in the next, from the cache of its core, if the turns of both go through the image alike.
//
// The caller takes turns too, and waits only for turns that another thread has begun. So it ends even if no other
// thread of the pool is free, for instance since all of them stand in this function.
inline void parallel_for(xla::ffi::ThreadPool& pool, int64_t count, std::function<void(int64_t)> turn) {
  struct State {
    State(int64_t count, int64_t workers, std::function<void(int64_t)> turn)
        : turn(std::move(turn)), count(count), workers(workers), next(workers) {
      for (int64_t w = 0; w < workers; ++w) next[w] = Part(w, workers, count).begin;
    }
    const std::function<void(int64_t)> turn;
    const int64_t count, workers;
    std::vector<std::atomic<int64_t>> next;  // turn of each worker's part
    std::atomic<int64_t> done{0};
    std::mutex mutex;
    std::condition_variable all_done;

    void work(int64_t worker) {
      for (int64_t w = worker; w < worker + workers; ++w) {
        const int64_t end = Part(w % workers, workers, count).end;
        for (int64_t i; (i = next[w % workers].fetch_add(1)) < end;) {
          turn(i);
          if (done.fetch_add(1) + 1 == count) {
            std::lock_guard<std::mutex> lock(mutex);
            all_done.notify_all();
          }
        }
      }
    }
  };
  if (count == 1) return turn(0);
  const int64_t workers = std::min<int64_t>(count, pool.num_threads());
  auto state = std::make_shared<State>(count, workers, std::move(turn));
  for (int64_t w = 1; w < workers; ++w) pool.Schedule([state, w] { state->work(w); });
  state->work(0);
  // What the others have begun is mostly over soon: sooner than a sleeping thread wakes up.
  for (int i = 0; i < 2000 && state->done != state->count; ++i) std::this_thread::yield();
  if (state->done == state->count) return;
  std::unique_lock<std::mutex> lock(state->mutex);
  state->all_done.wait(lock, [&] { return state->done == state->count; });
}
