// Where the outputs of a convolution of NHWC images look.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "batch_norm.h"
#include "vectors.h"

// Fewer pixels are divided among the cores by channels.
constexpr int64_t few_pixels = 128;

struct Geometry {
  int64_t batch, height, width, channels;  // of the inputs
  int64_t out_height, out_width;
  int64_t kernel_height, kernel_width;
  int64_t stride, dilation, top, left;
  int64_t row() const { return width * channels; }
  int64_t out_row() const { return out_width * channels; }  // of a depthwise convolution
  int64_t out_pixels() const { return batch * out_height * out_width; }
  int64_t taps() const { return kernel_height * kernel_width; }
  // Whether every output sees the one pixel in its place.
  bool pointwise() const { return taps() == 1 && stride == 1 && top == 0 && left == 0 && out_row() == row(); }
};

// What each output sees, as a row of `depth` values: [outputs, kh * kw * C].
template <class T>
class Seen {
 public:
  // A batch norm may be `before` a pointwise convolution.
  Seen(const T* inputs, const Geometry& g, const NormBefore<T>& before)
      : depth(g.taps() * g.channels), inputs_(inputs), g_(g), before_(before) {}

  // The rows of outputs [begin, end). They lie in `buffer`, unless they are the inputs themselves.
  const T* rows(int64_t begin, int64_t end, std::vector<T>& buffer) const {
    if (g_.pointwise()) return before_.seen(inputs_ + begin * depth, end - begin, depth, buffer);
    buffer.resize((end - begin) * depth + slack);
    T* to = buffer.data();
    for (int64_t first = begin; first < end;) {
      const int64_t line = first / g_.out_width, column = first % g_.out_width;
      const int64_t count = std::min(g_.out_width - column, end - first);
      copy_line(line, column, column + count, to);
      first += count, to += count * depth;
    }
    return buffer.data();
  }

  const int64_t depth;

 private:
  static constexpr int64_t slack = 16;  // values that may be read and written behind those that are wanted

  // What the outputs [begin, end) of a line of outputs see.
  void copy_line(int64_t line, int64_t begin, int64_t end, T* to) const {
    const int64_t top = line % g_.out_height * g_.stride - g_.top, image = line / g_.out_height * g_.height;
    const int64_t values = g_.kernel_width * g_.channels, lowest = top + (g_.kernel_height - 1) * g_.dilation;
    const T* start = inputs_ + (image + top) * g_.row();
    const T* stop = inputs_ + g_.batch * g_.height * g_.row() - slack;
    const bool inside = top >= 0 && lowest < g_.height && g_.dilation == 1 && values <= slack;
    for (int64_t output = begin; output < end; ++output) {
      const int64_t column = output * g_.stride - g_.left;
      const T* from = start + column * g_.channels;
      // All rows of the kernel see the image: whole vectors, of which the next ones cover what is too much.
      if (inside && column >= 0 && column + g_.kernel_width <= g_.width && from + (lowest - top) * g_.row() <= stop)
        for (int64_t i = 0; i < g_.kernel_height; ++i, to += values) std::copy_n(from + i * g_.row(), slack, to);
      else
        for (int64_t i = 0; i < g_.kernel_height; ++i, to += values)
          copy_taps(image, top + i * g_.dilation, column, to);
    }
  }

  // What the taps of one kernel row see, the first of them at `column`.
  void copy_taps(int64_t image, int64_t row, int64_t column, T* to) const {
    if (row < 0 || row >= g_.height) {
      std::fill_n(to, g_.kernel_width * g_.channels, T{});
      return;
    }
    const T* from = inputs_ + (image + row) * g_.row() + column * g_.channels;
    if (g_.dilation == 1 && column >= 0 && column + g_.kernel_width <= g_.width) {
      std::copy_n(from, g_.kernel_width * g_.channels, to);
      return;
    }
    for (int64_t j = 0; j < g_.kernel_width; ++j, column += g_.dilation, from += g_.dilation * g_.channels)
      for (int64_t c = 0; c < g_.channels; ++c) *to++ = column < 0 || column >= g_.width ? T{} : from[c];
  }

  const T* inputs_;
  const Geometry& g_;
  const NormBefore<T>& before_;
};
