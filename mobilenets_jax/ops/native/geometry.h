// Where the outputs of a convolution of NHWC images look.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "vectors.h"

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
  Seen(const T* inputs, const Geometry& g) : depth(g.taps() * g.channels), inputs_(inputs), g_(g) {}

  // The rows of outputs [begin, end). They lie in `buffer`, unless they are the inputs themselves.
  const T* rows(int64_t begin, int64_t end, std::vector<T>& buffer) const {
    if (g_.pointwise()) return inputs_ + begin * depth;
    buffer.resize((end - begin) * depth + slack);
    T* to = buffer.data();
    int64_t column = begin % g_.out_width, line = begin / g_.out_width;
    for (int64_t output = begin; output < end; ++output) {
      const int64_t row = line % g_.out_height * g_.stride - g_.top, image = line / g_.out_height * g_.height;
      for (int64_t i = 0; i < g_.kernel_height; ++i, to += g_.kernel_width * g_.channels)
        copy_taps(image, row + i * g_.dilation, column * g_.stride - g_.left, to);
      if (++column == g_.out_width) column = 0, ++line;
    }
    return buffer.data();
  }

  const int64_t depth;

 private:
  static constexpr int64_t slack = 16;  // values that may be read and written behind those that are wanted

  // What the taps of one kernel row see, the first of them at `column`.
  void copy_taps(int64_t image, int64_t row, int64_t column, T* to) const {
    const int64_t count = g_.kernel_width * g_.channels;
    if (row < 0 || row >= g_.height) {
      std::fill_n(to, count, T{});
      return;
    }
    const T* from = inputs_ + (image + row) * g_.row() + column * g_.channels;
    if (g_.dilation == 1 && column >= 0 && column + g_.kernel_width <= g_.width) {
      if (count <= slack && from + slack <= inputs_ + g_.batch * g_.height * g_.row())
        std::copy_n(from, slack, to);
      else
        std::copy_n(from, count, to);
      return;
    }
    for (int64_t j = 0; j < g_.kernel_width; ++j, column += g_.dilation, from += g_.dilation * g_.channels)
      for (int64_t c = 0; c < g_.channels; ++c) *to++ = column < 0 || column >= g_.width ? T{} : from[c];
  }

  const T* inputs_;
  const Geometry& g_;
};
