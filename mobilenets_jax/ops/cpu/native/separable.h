// A depthwise convolution with a pointwise map before it, behind it, or both, strip by strip of rows: what lies between
// them never leaves the cache.
#pragma once

#include <functional>

#include "depthwise.h"
#include "geometry.h"
#include "parallel.h"

template <class T>
struct Steps {
  static constexpr int64_t parts_of_sums = 32;

  MapPixels<T> expand, project;                                       // empty where there is no such step
  std::function<void(const Rows<T>& rows, T* outputs)> depthwise;     // one row of outputs
  std::function<void(int64_t part, int64_t begin, int64_t end)> sum;  // adds outputs [begin, end) to a part; or empty
};

// Rows [begin, end) of one image, as the expansion makes them; those that the strip before left are kept.
template <class T>
class ExpandedRows {
 public:
  // They lie in `values`.
  ExpandedRows(const T* inputs, int64_t in_channels, const Geometry& g, const Steps<T>& steps, std::vector<T>& values)
      : inputs_(inputs), in_channels_(in_channels), g_(g), steps_(steps), values_(values) {}

  // Where the image would begin, if all of its rows were there.
  const T* image(int64_t n, int64_t begin, int64_t end) {
    const int64_t kept = n == image_ ? std::max<int64_t>(std::min(end_, end) - begin, 0) : 0;
    if (kept > 0) std::copy_n(values_.data() + (begin - begin_) * g_.row(), kept * g_.row(), values_.data());
    values_.resize(std::max<size_t>(values_.size(), (end - begin) * g_.row()));
    const int64_t first = (n * g_.height + begin + kept) * g_.width;
    steps_.expand(inputs_ + first * in_channels_, (end - begin - kept) * g_.width, values_.data() + kept * g_.row());
    image_ = n, begin_ = begin, end_ = end;
    return values_.data() - begin * g_.row();
  }

 private:
  const T* inputs_;
  const int64_t in_channels_;
  const Geometry& g_;
  const Steps<T>& steps_;
  std::vector<T>& values_;
  int64_t image_ = -1, begin_ = 0, end_ = 0;
};

// outputs [N, H', W', out_channels] of inputs [N, H, W, in_channels]; `g` is the depthwise convolution.
template <class T>
void separable(xla::ffi::ThreadPool& pool, const T* inputs, int64_t in_channels, const Geometry& g,
               const Steps<T>& steps, int64_t out_channels, T* outputs) {
  constexpr int64_t values_of_strip = 65536;
  const T* beyond = zeros<T>((g.width + g.kernel_width) * g.channels);
  const int64_t rows_of_strip = std::clamp<int64_t>(values_of_strip / (g.stride * g.row()), 1, g.out_height);
  const int64_t strips_of_image = (g.out_height + rows_of_strip - 1) / rows_of_strip;
  const int64_t strips = g.batch * strips_of_image;
  const int64_t parts = std::min(strips, steps.sum ? steps.parts_of_sums : 4 * pool.num_threads());
  parallel_for(pool, parts, [&](int64_t i) {
    static thread_local std::vector<T> values, convolved;
    ExpandedRows<T> expanded(inputs, in_channels, g, steps, values);
    const Part part(i, parts, strips);
    for (int64_t strip = part.begin; strip < part.end; ++strip) {
      const int64_t n = strip / strips_of_image;
      const Part rows(strip % strips_of_image, strips_of_image, g.out_height);
      const int64_t begin = std::clamp<int64_t>(rows.begin * g.stride - g.top, 0, g.height);
      const int64_t last = (rows.end - 1) * g.stride - g.top + (g.kernel_height - 1) * g.dilation;
      const T* image = steps.expand ? expanded.image(n, begin, std::clamp<int64_t>(last + 1, begin, g.height))
                                    : inputs + n * g.height * g.row();
      const int64_t first = n * g.out_height + rows.begin, count = rows.end - rows.begin;
      if (steps.project) convolved.resize(std::max<size_t>(convolved.size(), count * g.out_row()));
      T* to = steps.project ? convolved.data() : outputs + first * g.out_row();
      for (int64_t row = 0; row < count; ++row)
        steps.depthwise({image, beyond, rows.begin + row, g}, to + row * g.out_row());
      if (steps.sum) steps.sum(i, first * g.out_width, (first + count) * g.out_width);
      if (steps.project) steps.project(to, count * g.out_width, outputs + first * g.out_width * out_channels);
    }
  });
}
