// Depthwise convolution of NHWC images.
#pragma once

#include <functional>

#include "activations.h"
#include "batch_norm.h"
#include "geometry.h"
#include "parallel.h"
#include "vectors.h"

// At least `count` zeros, which stay until this thread asks for more: to write them anew takes longer than small loops.
template <class T>
const T* zeros(int64_t count) {
  static thread_local std::vector<T> values;
  if (static_cast<int64_t>(values.size()) < count) values.resize(count);
  return values.data();
}

// What the taps of one output row see: pointers to rows of an image, or to zeros beyond its edges.
template <class T>
struct Rows {
  Rows(const T* image, const T* zeros, int64_t out_row, const Geometry& g) : zeros(zeros), g(g) {
    for (int64_t i = 0; i < g.kernel_height; ++i) {
      const int64_t row = out_row * g.stride - g.top + i * g.dilation;
      rows[i] = row >= 0 && row < g.height ? image + row * g.row() : nullptr;
    }
  }
  // The pixel that tap (i, j) sees for output `column`.
  const T* pixel(int64_t i, int64_t j, int64_t column) const {
    return pixel_at(i, column * g.stride - g.left + j * g.dilation);
  }
  // The pixel of row i that lies at `column` of the inputs.
  const T* pixel_at(int64_t i, int64_t column) const {
    return rows[i] != nullptr && column >= 0 && column < g.width ? rows[i] + column * g.channels : zeros;
  }
  // The first pixel of row i that is seen by output `column`, all of whose taps lie inside of the row.
  const T* start(int64_t i, int64_t column) const {
    return rows[i] != nullptr ? rows[i] + (column * g.stride - g.left) * g.channels : zeros;
  }
  // Columns whose taps all lie inside.
  struct Columns {
    int64_t begin, end;
  };
  Columns inside() const { return {inside_begin(), inside_end()}; }

  int64_t left() const { return g.left; }

  static constexpr int64_t max_kernel = 16;

 private:
  int64_t inside_begin() const { return std::clamp<int64_t>((g.left + g.stride - 1) / g.stride, 0, g.out_width); }
  int64_t inside_end() const {
    const int64_t last = g.width - 1 + g.left - (g.kernel_width - 1) * g.dilation;
    return std::max(inside_begin(), last < 0 ? 0 : std::min(last / g.stride + 1, g.out_width));
  }
  const T* rows[max_kernel];
  const T* zeros;
  const Geometry& g;
};

// Sum over `count` taps of pixels times weights, for all channels of one pixel.
template <class T, int L, class Epilogue>
inline void weigh(const T* const* pixels, const Wide<T>* const* weights, int64_t count, const Lanes<L>& lanes,
                  const Epilogue& epilogue, T* out) {
  for (int64_t v = lanes.begin; v < lanes.end; ++v) {
    const int64_t c = lanes.offset(v);
    Vec<T, L> sum = {};
    for (int64_t t = 0; t < count; ++t) sum += load<T, L>(pixels[t] + c) * load<Wide<T>, L>(weights[t] + c);
    store<T, L>(out + c, epilogue.template at<Vec<T, L>>(c)(sum, out + c));
  }
}

// B neighbouring outputs of a KH x KW kernel with stride S, `pitch` values apart. Only at an `edge` may taps lie beyond
// the ends of the rows; there the first `count` outputs are written.
template <class T, int L, int KH, int KW, int S, int B, bool edge, class Epilogue>
inline void weigh_block(const Rows<T>& rows, const Wide<T>* kernel, int64_t column, int64_t count,
                        const Lanes<L>& lanes, const Epilogue& epilogue, T* out, int64_t pitch) {
  constexpr int seen = (B - 1) * S + KW;
  const int64_t channels = lanes.channels;
  const T* starts[KH];
  const T* pixels_at[KH][seen];
  for (int i = 0; i < KH; ++i) {
    if constexpr (edge)
      for (int j = 0; j < seen; ++j) pixels_at[i][j] = rows.pixel_at(i, column * S - rows.left() + j);
    else
      starts[i] = rows.start(i, column);
  }
  for (int64_t v = lanes.begin; v < lanes.end; ++v) {
    const int64_t c = lanes.offset(v);
    Vec<T, L> sums[B] = {};
    for (int i = 0; i < KH; ++i) {
      Vec<T, L> pixels[seen];
      for (int j = 0; j < seen; ++j) pixels[j] = load<T, L>((edge ? pixels_at[i][j] : starts[i] + j * channels) + c);
      for (int j = 0; j < KW; ++j) {
        const Vec<T, L> weight = load<Wide<T>, L>(kernel + (i * KW + j) * channels + c);
        for (int b = 0; b < B; ++b) sums[b] += pixels[b * S + j] * weight;
      }
    }
    const auto finished = epilogue.template at<Vec<T, L>>(c);
#pragma GCC unroll 8  // else compilers write all sums to memory for this loop
    for (int b = 0; b < B; ++b)
      if (!edge || b < count) store<T, L>(out + b * pitch + c, finished(sums[b], out + b * pitch + c));
  }
}

// One row of outputs, `pitch` values apart. KH, KW and S are 0 for all kernels and strides that have no fast form.
template <class T, int L, int KH, int KW, int S, class Epilogue>
void forward_row(const Rows<T>& rows, const Wide<T>* kernel, const Geometry& g, const Lanes<L>& lanes,
                 const Epilogue& epilogue, T* out, int64_t pitch) {
  if constexpr (KH == 0) {
    const T* pixels[Rows<T>::max_kernel * Rows<T>::max_kernel];
    const Wide<T>* weights[Rows<T>::max_kernel * Rows<T>::max_kernel];
    for (int64_t column = 0; column < g.out_width; ++column) {
      for (int64_t t = 0; t < g.taps(); ++t) {
        pixels[t] = rows.pixel(t / g.kernel_width, t % g.kernel_width, column);
        weights[t] = kernel + t * g.channels;
      }
      weigh<T, L>(pixels, weights, g.taps(), lanes, epilogue, out + column * pitch);
    }
  } else {
    constexpr int64_t block = 7;  // they fit the registers, and divide the rows of all layers at 224 px
    const auto inside = rows.inside();
    const int64_t count = std::min(block, g.out_width);
    for (int64_t at = 0; at < g.out_width; at += block) {
      const int64_t column = std::min(at, g.out_width - count);  // the last block overlaps the one before
      T* to = out + column * pitch;
      if (column >= inside.begin && column + block <= inside.end)
        weigh_block<T, L, KH, KW, S, block, false>(rows, kernel, column, count, lanes, epilogue, to, pitch);
      else
        weigh_block<T, L, KH, KW, S, block, true>(rows, kernel, column, count, lanes, epilogue, to, pitch);
    }
  }
}

// The same for any kernel, stride and epilogue: one row of outputs, some of its channels.
template <class T, int L>
using ForwardRow = std::function<void(const Rows<T>& rows, const Lanes<L>& lanes, T* out)>;

// Calls `function.template operator()<K, S>()`.
template <class Function>
void with_kernel(const Geometry& g, Function&& function) {
  const bool square = g.kernel_height == g.kernel_width && g.dilation == 1;
  if (square && g.kernel_width == 3 && g.stride == 1) return function.template operator()<3, 1>();
  if (square && g.kernel_width == 3 && g.stride == 2) return function.template operator()<3, 2>();
  if (square && g.kernel_width == 5 && g.stride == 1) return function.template operator()<5, 1>();
  if (square && g.kernel_width == 5 && g.stride == 2) return function.template operator()<5, 2>();
  function.template operator()<0, 0>();
}

// outputs [N, H', W', C] of inputs [N, H, W, C], row by row, and, unless `totals` is null, the sums of the outputs and
// of their squares, [2, C].
template <class T, int L>
void depthwise(xla::ffi::ThreadPool& pool, const T* inputs, const ForwardRow<T, L>& forward, const Geometry& g,
               T* outputs, Wide<T>* totals) {
  const Lanes<L> lanes(g.channels);
  const T* beyond = zeros<T>((g.width + g.kernel_width) * g.channels);
  const int64_t rows = g.batch * g.out_height;
  // Few pixels of inputs are divided by channels, as dense.h made them so: each core has its own in its cache.
  const bool by_channels = totals == nullptr && g.batch * g.height * g.width < few_pixels;
  const int64_t parts = by_channels ? 1 : std::min<int64_t>(rows, 32);
  const int64_t divisions = by_channels ? std::clamp<int64_t>(lanes.count / 4, 1, 8) : 1;
  // Some channels of some rows at a time, so that what a row sees is in the first cache when the next row sees it.
  const int64_t rows_of_chunk = std::clamp<int64_t>(128 / g.out_width, 1, rows);
  const int64_t vectors_of_chunk = g.kernel_height * g.width * 4 * L <= 8192 ? 4 : lanes.count;
  PixelSums<T, L, 2> sums(totals == nullptr ? 0 : parts, g.channels);
  const auto compute = [&](int64_t begin, int64_t end, const Lanes<L>& some) {
    for (int64_t row = begin; row < end; ++row) {
      const T* image = inputs + row / g.out_height * g.height * g.row();
      forward({image, beyond, row % g.out_height, g}, some, outputs + row * g.out_row());
    }
  };
  parallel_for(pool, parts * divisions, [&](int64_t i) {
    const Part part(i % parts, parts, rows), vectors(i / parts, divisions, lanes.count);
    for (int64_t begin = part.begin; begin < part.end; begin += rows_of_chunk) {
      const int64_t end = std::min(begin + rows_of_chunk, part.end);
      for (int64_t v = vectors.begin; v < vectors.end; v += vectors_of_chunk)
        compute(begin, end, Lanes<L>(lanes, v, std::min(v + vectors_of_chunk, vectors.end)));
      if (totals != nullptr) sums.add(i, begin * g.out_width, end * g.out_width, moments<T, L>(outputs, g.channels));
    }
  });
  if (totals != nullptr) sums.finish(totals);
}
