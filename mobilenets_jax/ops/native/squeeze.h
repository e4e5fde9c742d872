// What squeeze-and-excitation does with images: the means of the channels, and a factor for each of them.
#pragma once

#include "batch_norm.h"
#include "parallel.h"
#include "vectors.h"

// means [images, channels] of inputs [images, pixels, channels].
template <class T, int L>
void global_average_pool(xla::ffi::ThreadPool& pool, const T* inputs, int64_t images, int64_t pixels, int64_t channels,
                         T* means) {
  const int64_t parts = images < 8 ? std::clamp<int64_t>(pixels / 16, 1, 8) : 1;  // of an image
  PixelSums<T, L, 1> sums(images * parts, channels);
  parallel_for(pool, images * parts, [&](int64_t i) {
    const T* image = inputs + i / parts * pixels * channels;
    const Part part(i % parts, parts, pixels);
    sums.add(i, part.begin, part.end, [=](int64_t pixel, int64_t c, Vec<T, L>* out) {
      out[0] += load<T, L>(image + pixel * channels + c);
    });
  });
  std::vector<Wide<T>> totals(channels);
  for (int64_t n = 0; n < images; ++n) {
    sums.finish(totals.data(), n * parts, (n + 1) * parts);
    for (int64_t c = 0; c < channels; ++c)
      store<T, 1>(means + n * channels + c, Vec<T, 1>{totals[c] / Wide<T>(pixels)});
  }
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
