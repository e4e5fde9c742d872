// Both gradients of a depthwise convolution.
#pragma once

#include "batch_norm.h"
#include "depthwise.h"
#include "geometry.h"
#include "parallel.h"
#include "vectors.h"

// Adds to sums [lanes.count, taps, L] what some rows of outputs add to the gradient of the kernel, of any size.
template <class T, int L>
void any_kernel_gradient_rows(const T* image, const T* gradients, const T* zeros, int64_t begin, int64_t end,
                              const Geometry& g, const Lanes<L>& lanes, Wide<T>* sums) {
  const int64_t taps = g.taps();
  for (int64_t v = 0; v < lanes.count; ++v) {
    const int64_t c = lanes.offset(v);
    Wide<T>* sum = sums + v * taps * L;
    for (int64_t row = begin; row < end; ++row) {
      const Rows<T> rows(image, zeros, row, g);
      for (int64_t column = 0; column < g.out_width; ++column) {
        const Vec<T, L> value = load<T, L>(gradients + row * g.out_row() + column * g.channels + c);
        for (int64_t t = 0; t < taps; ++t) {
          const T* pixel = rows.pixel(t / g.kernel_width, t % g.kernel_width, column);
          store<Wide<T>, L>(sum + t * L, load<Wide<T>, L>(sum + t * L) + load<T, L>(pixel + c) * value);
        }
      }
    }
  }
}

// The same for a K x K kernel with stride S, whose sums stay in registers.
template <class T, int L, int K, int S>
void kernel_gradient_rows(const T* image, const T* gradients, const T* zeros, int64_t begin, int64_t end,
                          const Geometry& g, const Lanes<L>& lanes, Wide<T>* sums) {
  for (int64_t v = 0; v < lanes.count; ++v) {
    const int64_t c = lanes.offset(v);
    Wide<T>* sum = sums + v * K * K * L;
    Vec<T, L> total[K * K];
    for (int t = 0; t < K * K; ++t) total[t] = load<Wide<T>, L>(sum + t * L);
    for (int64_t row = begin; row < end; ++row) {
      const Rows<T> rows(image, zeros, row, g);
      const T* gradient = gradients + row * g.out_row() + c;
      const auto inside = rows.inside();
      const auto edge = [&](int64_t from, int64_t to) {
        for (int64_t column = from; column < to; ++column) {
          const T* seen[K][K];
          for (int i = 0; i < K; ++i)
            for (int j = 0; j < K; ++j) seen[i][j] = rows.pixel(i, j, column) + c;
          const Vec<T, L> value = load<T, L>(gradient + column * g.channels);
          for (int i = 0; i < K; ++i)
            for (int j = 0; j < K; ++j) total[i * K + j] += load<T, L>(seen[i][j]) * value;
        }
      };
      edge(0, inside.begin);
      const T* starts[K];
      for (int i = 0; i < K; ++i) starts[i] = rows.start(i, inside.begin) + c;
      for (int64_t column = inside.begin; column < inside.end; ++column) {
        const Vec<T, L> value = load<T, L>(gradient + column * g.channels);
        const int64_t at = (column - inside.begin) * S * g.channels;
        for (int i = 0; i < K; ++i)
          for (int j = 0; j < K; ++j) total[i * K + j] += load<T, L>(starts[i] + at + j * g.channels) * value;
      }
      edge(inside.end, g.out_width);
    }
    for (int t = 0; t < K * K; ++t) store<Wide<T>, L>(sum + t * L, total[t]);
  }
}

// The gradient of one row of inputs, tap by tap that reaches it: output o reads input o * stride + tap * dilation -
// pad.
template <class T, int L>
void input_gradient_row(const T* gradients, const Wide<T>* kernel, int64_t row, const Geometry& g,
                        const Lanes<L>& lanes, T* out) {
  const T* seen[Rows<T>::max_kernel * Rows<T>::max_kernel];
  const Wide<T>* weights[Rows<T>::max_kernel * Rows<T>::max_kernel];
  const auto output_of = [&](int64_t at, int64_t size) {
    return at >= 0 && at % g.stride == 0 && at / g.stride < size ? at / g.stride : -1;
  };
  for (int64_t column = 0; column < g.width; ++column) {
    int64_t count = 0;
    for (int64_t i = 0; i < g.kernel_height; ++i) {
      const int64_t from_row = output_of(row + g.top - i * g.dilation, g.out_height);
      if (from_row < 0) continue;
      for (int64_t j = 0; j < g.kernel_width; ++j) {
        const int64_t from_column = output_of(column + g.left - j * g.dilation, g.out_width);
        if (from_column < 0) continue;
        seen[count] = gradients + from_row * g.out_row() + from_column * g.channels;
        weights[count++] = kernel + (i * g.kernel_width + j) * g.channels;
      }
    }
    weigh<T, L>(seen, weights, count, lanes, Nothing(), out + column * g.channels);
  }
}

// The gradient of the inputs for K x K kernels with stride S. Inputs in one phase, (row + top) % S and
// (column + left) % S, are seen by every S-th tap only: so for each phase it is a convolution with stride 1, its kernel
// turned by 180 degrees. K and S are 0 for all that have no fast form.
template <class T, int L, int K, int S>
class InputGradient {
 public:
  // Both must outlive it.
  InputGradient(const Wide<T>* kernel, const Geometry& g) : kernel_(kernel), g_(g), turned_(S * S) {
    for (int i = 0; i < S; ++i)
      for (int j = 0; j < S; ++j)
        for (int row = taps(i) - 1; row >= 0; --row)
          for (int column = taps(j) - 1; column >= 0; --column) {
            const Wide<T>* tap = kernel + ((i + row * S) * K + j + column * S) * g.channels;
            turned_[i * S + j].insert(turned_[i * S + j].end(), tap, tap + g.channels);
          }
  }

  // One row of it, of `gradients` of an image.
  void operator()(const T* gradients, const T* zeros, int64_t row, const Lanes<L>& lanes, T* out) const {
    if constexpr (K == 0) {
      input_gradient_row<T, L>(gradients, kernel_, row, g_, lanes, out);
    } else {
      for_phases([&]<int i>() {
        if (phase(row + g_.top) != i) return;
        for_phases([&]<int j>() { columns<i, j>(gradients, zeros, row, lanes, out); });
      });
    }
  }

 private:
  static constexpr int taps(int phase) { return (K - phase + S - 1) / S; }
  static int64_t phase(int64_t at) { return (at % S + S) % S; }  // images may be cropped by negative padding
  template <class Function>
  static void for_phases(Function&& function) {
    if constexpr (S > 0) function.template operator()<0>();
    if constexpr (S > 1) function.template operator()<1>();
  }

  // Those of one row, in phase `i`, that are in phase `j`.
  template <int i, int j>
  void columns(const T* gradients, const T* zeros, int64_t row, const Lanes<L>& lanes, T* out) const {
    const int64_t first = phase(j - g_.left), count = (g_.width - first + S - 1) / S;
    const Geometry back = {g_.batch, g_.out_height, g_.out_width, g_.channels, g_.height, count, taps(i), taps(j),
                           1, 1, taps(i) - 1, taps(j) - 1 - (first + g_.left - j) / S};
    forward_row<T, L, taps(i), taps(j), 1>({gradients, zeros, (row + g_.top - i) / S, back},
                                           turned_[i * S + j].data(), back, lanes, Nothing(),
                                           out + first * g_.channels, S * g_.channels);
  }

  const Wide<T>* kernel_;
  const Geometry& g_;
  std::vector<std::vector<Wide<T>>> turned_;
};

// Both gradients, some rows of one image at a time. The gradients of the outputs are there as an array, or, as
// `norm_gradient`, computed for those rows from what a batch norm made of them.
template <class T, int L>
void depthwise_gradient(xla::ffi::ThreadPool& pool, const T* inputs, const NormBefore<T>& before, const T* kernel,
                        const T* gradients, const NormGradient<T, L>* norm_gradient, const Geometry& g,
                        T* input_gradient, T* kernel_gradient) {
  const Lanes<L> lanes(g.channels);
  const int64_t taps = g.taps(), size = lanes.count * taps * L;
  const T* beyond = zeros<T>((std::max(g.width, g.out_width) + g.kernel_width) * g.channels);
  const Widened<T> weights(kernel, taps * g.channels);
  const int64_t rows_of_block = std::clamp<int64_t>(131072 / g.out_row(), 1, g.out_height);
  const int64_t blocks_of_image = (g.out_height + rows_of_block - 1) / rows_of_block;
  const int64_t blocks = g.batch * blocks_of_image, parts = std::min(blocks, NormBefore<T>::max_parts);
  std::vector<Wide<T>> sums(parts * size);
  with_kernel(g, [&]<int K, int S>() {
    const InputGradient<T, L, K, S> input_gradient_of(weights.data(), g);
    parallel_for(pool, parts, [&](int64_t i) {
      static thread_local std::vector<T> computed, normalized;
      const Part part(i, parts, blocks);
      for (int64_t block = part.begin; block < part.end; ++block) {
        const int64_t n = block / blocks_of_image, nth = block % blocks_of_image;
        const Part out_rows(nth, blocks_of_image, g.out_height), rows(nth, blocks_of_image, g.height);
        const int64_t reach = (g.kernel_height - 1) * g.dilation;
        const T* gradient = gradients + n * g.out_height * g.out_row();
        if (norm_gradient != nullptr) {
          const auto clamp = [&](int64_t row) { return std::clamp<int64_t>(row, 0, g.out_height); };
          const int64_t begin = std::min(out_rows.begin, clamp((rows.begin + g.top - reach) / g.stride));
          const int64_t end = std::max(out_rows.end, clamp((rows.end + g.top) / g.stride + 1));
          computed.resize((end - begin) * g.out_row());
          const int64_t first = n * g.out_height * g.out_width;
          (*norm_gradient)(first + begin * g.out_width, first + end * g.out_width, computed.data());
          gradient = computed.data() - begin * g.out_row();
        }
        const int64_t highest = std::clamp<int64_t>(out_rows.begin * g.stride - g.top, 0, g.height);
        const int64_t lowest =
            std::clamp<int64_t>((out_rows.end - 1) * g.stride - g.top + reach + 1, highest, g.height);
        const T* image = before.seen(inputs + (n * g.height + highest) * g.row(), (lowest - highest) * g.width,
                                     g.channels, normalized) - highest * g.row();
        Wide<T>* sum = sums.data() + i * size;
        if constexpr (K == 0)
          any_kernel_gradient_rows<T, L>(image, gradient, beyond, out_rows.begin, out_rows.end, g, lanes, sum);
        else
          kernel_gradient_rows<T, L, K, S>(image, gradient, beyond, out_rows.begin, out_rows.end, g, lanes, sum);
        for (int64_t row = rows.begin; row < rows.end; ++row)
          input_gradient_of(gradient, beyond, row, lanes, input_gradient + (n * g.height + row) * g.row());
        if (before.sum) before.sum(i, (n * g.height + rows.begin) * g.width, (n * g.height + rows.end) * g.width);
      }
    });
  });
  for (int64_t t = 0; t < taps; ++t)
    for (int64_t v = 0; v < lanes.count; ++v) {
      Vec<T, L> total = {};
      for (int64_t i = 0; i < parts; ++i) total += load<Wide<T>, L>(sums.data() + i * size + (v * taps + t) * L);
      store<T, L>(kernel_gradient + t * g.channels + lanes.offset(v), total);
    }
}
