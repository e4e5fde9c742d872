// Batch normalisation with its activation: sums over the pixels, and maps of every pixel.
#pragma once

#include <functional>

#include "activations.h"
#include "parallel.h"
#include "vectors.h"

// Sums over pixels of `n` values for each channel: parts [count], each [n, width], in double.
template <class T, int L, int n>
class PixelSums {
 public:
  PixelSums(int64_t count, int64_t channels) : lanes(channels), count_(count), width_(lanes.count * L),
                                               sums_(count * n * width_) {}

  static constexpr int64_t block = 128;  // pixels that are added up by themselves, then their sums in double

  // Adds to part `i` what `terms(pixel, channel, sums)` adds to its n vectors, for pixels [begin, end).
  template <class Terms>
  void add(int64_t i, int64_t begin, int64_t end, Terms&& terms) {
    double* sum = sums_.data() + i * n * width_;
    for (; begin < end; begin += block)
      for (int64_t v = 0; v < lanes.count; ++v) {
        Vec<T, L> some[n] = {};
        for (int64_t pixel = begin; pixel < std::min(begin + block, end); ++pixel) terms(pixel, lanes.offset(v), some);
        for (int k = 0; k < n; ++k)
          for (int lane = 0; lane < L; ++lane) sum[k * width_ + v * L + lane] += some[k][lane];
      }
  }

  // To totals [n, channels].
  void finish(Wide<T>* totals) const {
    for (int64_t k = 0; k < n; ++k)
      for (int64_t c = 0; c < lanes.channels; ++c) {
        double total = 0;
        for (int64_t i = 0; i < count_; ++i) total += sums_[(i * n + k) * width_ + lanes.slot(c)];
        totals[k * lanes.channels + c] = total;
      }
  }

  const Lanes<L> lanes;

 private:
  const int64_t count_, width_;
  std::vector<double> sums_;
};

// Terms of PixelSums: values [pixels, channels], and their squares.
template <class T, int L>
auto moments(const T* values, int64_t channels) {
  return [=](int64_t pixel, int64_t c, Vec<T, L>* out) {
    const Vec<T, L> x = load<T, L>(values + pixel * channels + c);
    out[0] += x;
    out[1] += x * x;
  };
}

// Sums of n values over all pixels, to totals [n, channels]; see PixelSums::add. Parts do not depend on the threads.
template <class T, int L, int n, class Terms>
void sum_pixels(xla::ffi::ThreadPool& pool, int64_t pixels, int64_t channels, Wide<T>* totals, Terms terms) {
  const int64_t parts = std::clamp<int64_t>(pixels / PixelSums<T, L, n>::block, 1, 32);
  PixelSums<T, L, n> sums(parts, channels);
  parallel_for(pool, parts, [&](int64_t i) {
    const Part part(i, parts, pixels);
    sums.add(i, part.begin, part.end, terms);
  });
  sums.finish(totals);
}

// Sums of the values and of their squares: totals [2, channels].
template <class T, int L>
void norm_sums(xla::ffi::ThreadPool& pool, const T* inputs, int64_t pixels, int64_t channels, Wide<T>* totals) {
  sum_pixels<T, L, 2>(pool, pixels, channels, totals, moments<T, L>(inputs, channels));
}

// Calls `map(begin, end)` for some thousand values at a time, by whole pixels.
template <class Map>
void map_pixels(xla::ffi::ThreadPool& pool, int64_t pixels, int64_t channels, Map&& map) {
  const int64_t parts = std::clamp<int64_t>(pixels * channels / 16384, 1, 32);
  parallel_for(pool, parts, [&](int64_t i) {
    const Part part(i, parts, pixels);
    map(part.begin, part.end);
  });
}

// What an epilogue makes of `pixels` of inputs.
template <class T, int L, class Epilogue>
void norm_pixels(const Epilogue& epilogue, const Lanes<L>& lanes, const T* inputs, int64_t pixels, T* outputs) {
  for (int64_t pixel = 0; pixel < pixels; ++pixel)
    for (int64_t v = 0; v < lanes.count; ++v) {
      const int64_t c = lanes.offset(v), at = pixel * lanes.channels + c;
      store<T, L>(outputs + at, epilogue.template at<Vec<T, L>>(c)(load<T, L>(inputs + at), outputs + at));
    }
}

// The same on all cores.
template <class T, int L, class Epilogue>
void norm_apply(xla::ffi::ThreadPool& pool, const Epilogue& epilogue, const T* inputs, int64_t pixels, int64_t channels,
                T* outputs) {
  const Lanes<L> lanes(channels);
  map_pixels(pool, pixels, channels, [&](int64_t begin, int64_t end) {
    norm_pixels<T, L>(epilogue, lanes, inputs + begin * channels, end - begin, outputs + begin * channels);
  });
}

// Terms of PixelSums: the gradient before the activation, and its product with the normalised values.
// constants [4, channels] = factor, shift, mean, inverse deviation.
template <class T, int L, class Activation>
auto gradient_moments(Activation activation, const T* inputs, const T* gradients, const Wide<T>* constants,
                      int64_t channels) {
  return [=](int64_t pixel, int64_t c, Vec<T, L>* out) {
    using V = Vec<T, L>;
    const auto constant = [=](int row) { return load<Wide<T>, L>(constants + row * channels + c); };
    const V x = load<T, L>(inputs + pixel * channels + c);
    const V gradient = load<T, L>(gradients + pixel * channels + c);
    const V g = activation.template gradient<V>(x * constant(0) + constant(1), gradient);
    out[0] += g;
    out[1] += g * ((x - constant(2)) * constant(3));
  };
}

// Sums of these over all pixels: totals [2, channels].
template <class T, int L, class Activation>
void norm_gradient_sums(xla::ffi::ThreadPool& pool, Activation activation, const T* inputs, const T* gradients,
                        const Wide<T>* constants, int64_t pixels, int64_t channels, Wide<T>* totals) {
  sum_pixels<T, L, 2>(pool, pixels, channels, totals,
                      gradient_moments<T, L>(activation, inputs, gradients, constants, channels));
}

// Makes `pixels` of outputs from as many of inputs.
template <class T>
using MapPixels = std::function<void(const T* inputs, int64_t pixels, T* outputs)>;

// A batch norm before a convolution, whose outputs are never written: the convolution makes them of its inputs where it
// reads them. And it sums for the gradient of the batch norm while the gradients of these outputs are in the cache.
template <class T>
struct NormBefore {
  static constexpr int64_t max_parts = 16;

  MapPixels<T> apply;                                                 // empty where there is none, like the next
  std::function<void(int64_t part, int64_t begin, int64_t end)> sum;  // adds to a part the pixels [begin, end)

  // `pixels` of what the convolution sees; they lie in `buffer`, unless they are the inputs themselves.
  const T* seen(const T* inputs, int64_t pixels, int64_t channels, std::vector<T>& buffer) const {
    if (!apply) return inputs;
    buffer.resize(std::max<size_t>(buffer.size(), pixels * channels));
    apply(inputs, pixels, buffer.data());
    return buffer.data();
  }
};

// The gradients of a convolution's outputs from those of the normalised and activated ones: a * gradient before the
// activation + b * (outputs - mean) + d, constants [6, channels] = factor, shift, mean, a, b, d.
template <class T, int L>
struct NormGradient {
  const T *outputs, *gradients;
  const Wide<T>* constants;
  Lanes<L> lanes;
  int64_t activation;

  // Of pixels [begin, end), to `to` [end - begin, channels].
  void operator()(int64_t begin, int64_t end, T* to) const {
    with_activation<Wide<T>>(activation, [&](auto function) {
      for (int64_t pixel = begin; pixel < end; ++pixel)
        for (int64_t v = 0; v < lanes.count; ++v) {
          using V = Vec<T, L>;
          const int64_t c = lanes.offset(v), at = pixel * lanes.channels + c;
          const auto constant = [&](int row) { return load<Wide<T>, L>(constants + row * lanes.channels + c); };
          const V x = load<T, L>(outputs + at);
          const V g = function.template gradient<V>(x * constant(0) + constant(1), load<T, L>(gradients + at));
          store<T, L>(to + (pixel - begin) * lanes.channels + c,
                      constant(3) * g + constant(4) * (x - constant(2)) + constant(5));
        }
    });
  }
};

template <class T, int L>
void norm_gradient_apply(xla::ffi::ThreadPool& pool, const NormGradient<T, L>& gradient, int64_t pixels, T* outputs) {
  const int64_t channels = gradient.lanes.channels;
  map_pixels(pool, pixels, channels, [&](int64_t begin, int64_t end) {
    gradient(begin, end, outputs + begin * channels);
  });
}
