// What squeeze-and-excitation does with images: the means of the channels, and a factor for each of them.
#pragma once

#include "batch_norm.h"
#include "parallel.h"
#include "vectors.h"

// means [images, channels] of inputs [images, pixels, channels]. Every 128 pixels are added up by themselves, then
// their sums in double, as in batch_norm.h; but a turn has some channels of all pixels: no sums of parts remain.
template <class T, int L>
void global_average_pool(xla::ffi::ThreadPool& pool, const T* inputs, int64_t images, int64_t pixels, int64_t channels,
                         T* means) {
  constexpr int64_t block = 128, vectors_of_turn = 4;
  const Lanes<L> lanes(channels);
  const int64_t groups = (lanes.count + vectors_of_turn - 1) / vectors_of_turn;
  parallel_for(pool, images * groups, [&](int64_t turn) {
    const int64_t n = turn / groups;
    const Part vectors(turn % groups, groups, lanes.count);
    for (int64_t v = vectors.begin; v < vectors.end; ++v) {
      const int64_t c = lanes.offset(v);
      const T* values = inputs + n * pixels * channels + c;
      double totals[L] = {};
      for (int64_t begin = 0; begin < pixels; begin += block) {
        Vec<T, L> sum = {};
        for (int64_t pixel = begin; pixel < std::min(begin + block, pixels); ++pixel)
          sum += load<T, L>(values + pixel * channels);
        for (int lane = 0; lane < L; ++lane) totals[lane] += sum[lane];
      }
      Vec<T, L> mean;
      for (int lane = 0; lane < L; ++lane) mean[lane] = totals[lane] / pixels;
      store<T, L>(means + n * channels + c, mean);
    }
  });
}

// outputs [images, pixels, channels] = inputs * factors [images, channels].
template <class T, int L>
void scale_channels(xla::ffi::ThreadPool& pool, const T* inputs, const T* factors, int64_t images, int64_t pixels,
                    int64_t channels, T* outputs) {
  const Lanes<L> lanes(channels);
  map_pixels(pool, images * pixels, channels, [&](int64_t begin, int64_t end) {
    for (int64_t pixel = begin; pixel < end; ++pixel) {
      const T* factor = factors + pixel / pixels * channels;
      for (int64_t v = 0; v < lanes.count; ++v) {
        const int64_t c = lanes.offset(v), at = pixel * channels + c;
        store<T, L>(outputs + at, load<T, L>(inputs + at) * load<T, L>(factor + c));
      }
    }
  });
}
