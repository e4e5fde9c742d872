// A loop whose turns run on the threads that XLA computes with.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "xla/ffi/api/ffi.h"

// The i-th of `parts` nearly equal parts of [0, count). All begin at multiples of `unit`.
struct Part {
  Part(int64_t i, int64_t parts, int64_t count, int64_t unit = 1)
      : begin(start(i, parts, count, unit)), end(start(i + 1, parts, count, unit)) {}
  // Of another part.
  Part(int64_t i, int64_t parts, const Part& all) : Part(all.begin, Part(i, parts, all.end - all.begin)) {}
  const int64_t begin, end;

 private:
  Part(int64_t offset, const Part& part) : begin(offset + part.begin), end(offset + part.end) {}
  static int64_t start(int64_t i, int64_t parts, int64_t count, int64_t unit) {
    return std::min(i * ((count + unit - 1) / unit) / parts * unit, count);
  }
};

// Memory that this core will want soon. Loops over the cache ask for it line by line meanwhile; else it would wait
// for memory and compute in turn, as no processor looks that far ahead.
class Ahead {
 public:
  // For a loop: a line for each of its turns.
  struct Lines {
    const char* at;
    int64_t step;
    void ask(int64_t turn) const { __builtin_prefetch(at + turn * step, 0, 2); }
  };

  // `part` of values [pixels, channels]; no more than four times.
  template <class T>
  void add(const T* values, const Part& part, int64_t channels) {
    const auto address = [&](int64_t pixel) { return reinterpret_cast<const char*>(values + pixel * channels); };
    regions_[count_++] = {address(part.begin), address(part.end)};
  }

  // The next lines, for a loop of so many turns. Without `ahead`, or if there are no more, it asks for what is `there`.
  static Lines take(Ahead* ahead, int64_t turns, const void* there) {
    if (ahead == nullptr || ahead->next_ == ahead->count_) return {static_cast<const char*>(there), 0};
    Region& region = ahead->regions_[ahead->next_];
    const Lines lines{region.begin, line};
    region.begin += line * turns;
    if (region.begin >= region.end) ++ahead->next_;
    return lines;
  }

 private:
  static constexpr int64_t line = 64;
  struct Region {
    const char *begin, *end;
  };
  Region regions_[4];
  int count_ = 0, next_ = 0;
};

// Waits for about a microsecond, or until `ready()`; whether it is.
template <class Ready>
bool ready_soon(Ready&& ready) {
  for (int i = 0; i < 64; ++i) {
    if (ready()) return true;
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
  }
  std::this_thread::yield();
  return ready();
}

// Threads that have had work and wait a moment for more. A network has dozens of loops in a row, and waking a sleeping
// thread takes longer than many of them.
class WaitingThreads {
 public:
  using Work = std::function<void()>;

  // Those of this process; never destroyed, as they may outlast what is destroyed at its end.
  static WaitingThreads& all() {
    static auto& threads = *new WaitingThreads;
    return threads;
  }

  // Gives `work` to one of them; whether there was one.
  bool give(const Work& work) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (static_cast<int64_t>(given_.size()) == waiting_) return false;
    given_.push_back(work);
    some_ = true;
    return true;
  }

  // Lets this thread do `work`, and what else is given in time.
  void serve(Work work) {
    do work(); while (wait(work));
  }

 private:
  // Waits for `work`; whether there was some in time.
  bool wait(Work& work) {
    using Clock = std::chrono::steady_clock;
    constexpr std::chrono::microseconds patience(100);
    std::unique_lock<std::mutex> lock(mutex_);
    ++waiting_;
    for (const auto end = Clock::now() + patience; given_.empty() && Clock::now() < end;) {
      lock.unlock();
      while (!ready_soon([&] { return some_.load(); }) && Clock::now() < end) continue;
      lock.lock();
    }
    --waiting_;
    if (given_.empty()) return false;
    work = std::move(given_.front());
    given_.pop_front();
    some_ = !given_.empty();
    return true;
  }

  std::mutex mutex_;
  std::deque<Work> given_;  // no more than there are threads waiting
  int64_t waiting_ = 0;
  std::atomic<bool> some_{false};  // whether anything is given
};

// Calls `turn(i)` for all i < `count`, in any order, and returns when all are done.
//
// Every thread begins with a part of the turns of its own and then helps the others. So what a thread has written in
// one loop it mostly reads in the next, from the cache of its core, if the turns of both go through the image alike.
//
// The caller takes turns too, and waits only for turns that another thread has begun. So it ends even if no other
// thread of the pool is free, for instance since all of them stand in this function.
inline void parallel_for(xla::ffi::ThreadPool& pool, int64_t count, std::function<void(int64_t)> turn) {
  // Far from the next, as cores that write to one cache line wait for each other. To ask for aligned memory instead
  // takes tens of microseconds at times.
  struct Counter {
    std::atomic<int64_t> value{0};
    char apart[120];
  };
  struct State {
    State(int64_t count, int64_t workers, std::function<void(int64_t)> turn)
        : turn(std::move(turn)), count(count), workers(workers), next(workers) {
      for (int64_t w = 0; w < workers; ++w) next[w].value = Part(w, workers, count).begin;
    }
    const std::function<void(int64_t)> turn;
    const int64_t count, workers;
    std::vector<Counter> next;  // turn of each worker's part
    Counter done;
    std::mutex mutex;
    std::condition_variable all_done;

    void work(int64_t worker) {
      int64_t turns = 0;
      for (int64_t w = worker; w < worker + workers; ++w) {
        const int64_t end = Part(w % workers, workers, count).end;
        for (int64_t i; (i = next[w % workers].value.fetch_add(1)) < end; ++turns) turn(i);
      }
      if (turns == 0 || done.value.fetch_add(turns) + turns < count) return;
      std::lock_guard<std::mutex> lock(mutex);
      all_done.notify_all();
    }
    bool is_done() const { return done.value == count; }
  };
  if (count == 1) return turn(0);
  const int64_t workers = std::min<int64_t>(count, pool.num_threads());
  auto state = std::make_shared<State>(count, workers, std::move(turn));
  auto& threads = WaitingThreads::all();
  for (int64_t w = 1; w < workers; ++w) {
    const WaitingThreads::Work work = [state, w] { state->work(w); };
    if (!threads.give(work)) pool.Schedule([&threads, work] { threads.serve(work); });
  }
  state->work(0);
  // What the others have begun is mostly over soon: sooner than a sleeping thread wakes up.
  for (int i = 0; i < 1000; ++i)
    if (ready_soon([&] { return state->is_done(); })) return;
  std::unique_lock<std::mutex> lock(state->mutex);
  state->all_done.wait(lock, [&] { return state->is_done(); });
}
