// Convolution of all channels with all, and its gradients: products of what the outputs see, a tall matrix, with a
// small one of weights, and of two tall ones.
#pragma once

#include "activations.h"
#include "batch_norm.h"
#include "geometry.h"
#include "parallel.h"
#include "vectors.h"

// Rows of pixels that one tile holds in registers, when its pixels are `vectors` wide: 32 registers with the weights.
constexpr int rows_of_tile(int vectors) { return vectors == 4 ? 6 : vectors == 3 ? 8 : 12; }

// Calls `function.template operator()<NV>(first vector)` for groups of at most 4 of `count` vectors, of nearly one
// size.
template <class Function>
void for_groups(int64_t count, Function&& function) {
  const int64_t groups = (count + 3) / 4;
  for (int64_t i = 0; i < groups; ++i) {
    const Part part(i, groups, count);
    switch (part.end - part.begin) {
      case 1: function.template operator()<1>(part.begin); break;
      case 2: function.template operator()<2>(part.begin); break;
      case 3: function.template operator()<3>(part.begin); break;
      default: function.template operator()<4>(part.begin);
    }
  }
}

// Weights as a tile reads them: vector v of row k lies at weights[k * row + columns[v]].
template <class T>
struct Weights {
  const T* weights;
  int64_t row;
  const int64_t* columns;
};

// outputs[M, NV vectors] = inputs[M, depth] weights[depth, NV vectors], at channels[NV] of each row of outputs.
template <class T, int L, int NV, int M, class Epilogue>
inline void forward_tile(const T* inputs, int64_t depth, const Weights<T>& from, const int64_t* channels,
                         const Epilogue& epilogue, T* outputs, int64_t width) {
  Vec<T, L> sums[M][NV] = {};
  for (int64_t k = 0; k < depth; ++k) {
    Vec<T, L> weight[NV];
    for (int v = 0; v < NV; ++v) weight[v] = load<T, L>(from.weights + k * from.row + from.columns[v]);
    for (int m = 0; m < M; ++m)
      for (int v = 0; v < NV; ++v) sums[m][v] += weight[v] * inputs[m * depth + k];
  }
  for (int v = 0; v < NV; ++v) {
    const auto finished = epilogue.template at<Vec<T, L>>(channels[v]);
    for (int m = 0; m < M; ++m) store<T, L>(outputs + m * width + channels[v], finished(sums[m][v]));
  }
}

// Weights [depth, width] as the tiles read them: group by group of at most 4 vectors, each [depth, vectors, L]. Weight
// (k, c) lies at weights[k * row + c * column].
template <class T, int L>
std::vector<T> packed(xla::ffi::ThreadPool& pool, const T* weights, int64_t depth, int64_t width, int64_t row,
                      int64_t column) {
  const Lanes<L> lanes(width);
  std::vector<T> result(depth * lanes.count * L);
  const int64_t turns = depth * width < 65536 ? 1 : 8;
  parallel_for(pool, turns, [&](int64_t turn) {
    const Part part(turn, turns, depth);
    for_groups(lanes.count, [&]<int NV>(int64_t first) {
      T* to = result.data() + (depth * first + part.begin * NV) * L;
      for (int64_t k = part.begin; k < part.end; ++k)
        for (int v = 0; v < NV; ++v, to += L) {
          const T* from = weights + k * row + lanes.offset(first + v) * column;
          for (int lane = 0; lane < L; ++lane) to[lane] = from[lane * column];
        }
    });
  });
  return result;
}

// outputs [pixels, width] = inputs [pixels, depth] weights, of group `only` or, if that is negative, of all. The
// weights are packed or, `as_they_lie`, [depth, width].
template <class T, int L, class Epilogue>
void multiply(const T* inputs, const T* weights, bool as_they_lie, const Epilogue& epilogue, int64_t pixels,
              int64_t depth, const Lanes<L>& lanes, int64_t only, T* outputs) {
  int64_t group = 0;
  for_groups(lanes.count, [&]<int NV>(int64_t first) {
    if (only >= 0 && group++ != only) return;
    int64_t channels[NV], columns[NV];
    for (int v = 0; v < NV; ++v) channels[v] = lanes.offset(first + v);
    for (int v = 0; v < NV; ++v) columns[v] = as_they_lie ? channels[v] : depth * first * L + v * L;
    const Weights<T> from = {weights, as_they_lie ? lanes.channels : NV * L, columns};
    constexpr int M = rows_of_tile(NV);
    const auto tile = [&]<int rows>(int64_t pixel) {
      forward_tile<T, L, NV, rows>(inputs + pixel * depth, depth, from, channels, epilogue,
                                   outputs + pixel * lanes.channels, lanes.channels);
    };
    if (pixels < M)
      for (int64_t pixel = 0; pixel < pixels; ++pixel) tile.template operator()<1>(pixel);
    else  // the last tile overlaps the one before
      for (int64_t pixel = 0; pixel < pixels; pixel += M) tile.template operator()<M>(std::min(pixel, pixels - M));
  });
}

// outputs [N, H', W', width] of inputs [N, H, W, C] and kernel [kh, kw, C, width], and, unless `totals` is null, the
// sums of the outputs and of their squares, [2, width].
template <class T, int L, class Epilogue>
void dense(xla::ffi::ThreadPool& pool, const T* inputs, const T* kernel, const Epilogue& epilogue, const Geometry& g,
           int64_t width, T* outputs, T* totals) {
  const Seen<T> seen(inputs, g);
  const Lanes<L> lanes(width);
  const int64_t pixels = g.out_pixels(), depth = seen.depth;
  // Few pixels are divided by channels too, so that there is work for all threads, and are not worth packing weights
  // for.
  const bool few = pixels < 2048;
  const std::vector<T> packed_weights = few ? std::vector<T>() : packed<T, L>(pool, kernel, depth, width, width, 1);
  const int64_t groups = few ? (lanes.count + 3) / 4 : 1, size = few ? pixels < 256 ? 24 : 96 : 256;
  const int64_t parts = std::max<int64_t>(1, pixels / size);
  PixelSums<T, L, 2> sums(totals == nullptr || few ? 0 : parts, width);
  parallel_for(pool, parts * groups, [&](int64_t turn) {
    static thread_local std::vector<T> buffer;
    const Part part(turn / groups, parts, pixels);
    T* to = outputs + part.begin * width;
    multiply<T, L>(seen.rows(part.begin, part.end, buffer), few ? kernel : packed_weights.data(), few, epilogue,
                   part.end - part.begin, depth, lanes, few ? turn % groups : -1, to);
    if (totals != nullptr && !few) sums.add(turn, 0, part.end - part.begin, moments<T, L>(to, width));
  });
  if (totals == nullptr) return;
  few ? norm_sums<T, L>(pool, outputs, pixels, width, totals) : sums.finish(totals);
}

// sums[M, NV vectors] += inputs[pixels, M]^T gradients[pixels, NV vectors].
template <class T, int L, int NV, int M>
inline void kernel_tile(const T* inputs, int64_t depth, const T* const* gradients, int64_t width, int64_t pixels,
                        T* sums, int64_t stride) {
  Vec<T, L> sum[M][NV];
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < NV; ++v) sum[m][v] = load<T, L>(sums + m * stride + v * L);
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    Vec<T, L> gradient[NV];
    for (int v = 0; v < NV; ++v) gradient[v] = load<T, L>(gradients[v] + pixel * width);
    for (int m = 0; m < M; ++m)
      for (int v = 0; v < NV; ++v) sum[m][v] += gradient[v] * inputs[pixel * depth + m];
  }
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < NV; ++v) store<T, L>(sums + m * stride + v * L, sum[m][v]);
}

// A sum of products inputs^T gradients over many pixels: [depth, width], as some parts that are added in the end.
template <class T, int L, int M>
class KernelGradient {
 public:
  KernelGradient(int64_t parts, int64_t depth, int64_t width)
      : lanes_(width), rows_(depth), parts_(parts), stride_(lanes_.count * L), size_(rows_.count * M * stride_),
        sums_(parts * size_) {}

  int64_t tiles() const { return rows_.count; }

  // Adds inputs [pixels, depth]^T gradients [pixels, width] to part `i`, for some tiles of M rows.
  void add(int64_t i, const T* inputs, const T* gradients, int64_t pixels, int64_t first_tile, int64_t last_tile) {
    for_groups(lanes_.count, [&]<int NV>(int64_t first) {
      const T* columns[NV];
      for (int v = 0; v < NV; ++v) columns[v] = gradients + lanes_.offset(first + v);
      for (int64_t tile = first_tile; tile < last_tile; ++tile)
        kernel_tile<T, L, NV, M>(inputs + rows_.offset(tile), rows_.channels, columns, lanes_.channels, pixels,
                                 sums_.data() + i * size_ + tile * M * stride_ + first * L, stride_);
    });
  }

  // To outputs [depth, width].
  void finish(xla::ffi::ThreadPool& pool, T* outputs) const {
    const int64_t depth = rows_.channels, turns = std::min<int64_t>(depth, 8);
    parallel_for(pool, turns, [&](int64_t turn) {
      const Part part(turn, turns, depth);
      for (int64_t k = part.begin; k < part.end; ++k)
        for (int64_t v = 0; v < lanes_.count; ++v) {
          Vec<T, L> total = {};
          for (int64_t i = 0; i < parts_; ++i)
            total += load<T, L>(sums_.data() + i * size_ + rows_.slot(k) * stride_ + v * L);
          store<T, L>(outputs + k * lanes_.channels + lanes_.offset(v), total);
        }
    });
  }

 private:
  const Lanes<L> lanes_;
  const Lanes<M> rows_;
  const int64_t parts_, stride_, size_;
  std::vector<T> sums_;  // [parts, tiles, M, stride]
};

// The gradient of the kernel, [kh, kw, C, width], from inputs [N, H, W, C] and gradients of outputs [N, H', W', width].
template <class T, int L, int M>
void dense_kernel_gradient(xla::ffi::ThreadPool& pool, const T* inputs, const T* gradients, const Geometry& g,
                           int64_t width, T* kernel_gradient) {
  constexpr int64_t block = 256, tiles_of_turn = 8;
  const Seen<T> seen(inputs, g);
  const int64_t pixels = g.out_pixels(), parts = std::clamp<int64_t>(pixels / 2048, 1, 16);
  KernelGradient<T, L, M> sums(parts, seen.depth, width);
  const int64_t divisions = (sums.tiles() + tiles_of_turn - 1) / tiles_of_turn;
  parallel_for(pool, parts * divisions, [&](int64_t turn) {
    static thread_local std::vector<T> buffer;
    const Part part(turn / divisions, parts, pixels), tiles(turn % divisions, divisions, sums.tiles());
    for (int64_t begin = part.begin; begin < part.end; begin += block) {
      const int64_t end = std::min(begin + block, part.end);
      sums.add(turn / divisions, seen.rows(begin, end, buffer), gradients + begin * width, end - begin, tiles.begin,
               tiles.end);
    }
  });
  sums.finish(pool, kernel_gradient);
}

// Both gradients of a pointwise convolution that a batch norm follows. The gradients of its outputs are never written:
// some hundred pixels of them at a time lie in the cache while both products read them.
// LI and LO are the vectors of the inputs' and of the outputs' channels.
template <class T, int LI, int LO, int M>
void pointwise_norm_gradient(xla::ffi::ThreadPool& pool, const T* inputs, const T* weights,
                             const NormGradient<T, LO>& gradient, int64_t pixels, int64_t depth, T* input_gradient,
                             T* kernel_gradient) {
  constexpr int64_t block = 96;
  const int64_t width = gradient.lanes.channels, parts = std::clamp<int64_t>(pixels / (2 * block), 1, 16);
  const std::vector<T> transposed = packed<T, LI>(pool, weights, width, depth, 1, width);
  const Lanes<LI> lanes(depth);
  KernelGradient<T, LO, M> sums(parts, depth, width);
  parallel_for(pool, parts, [&](int64_t i) {
    static thread_local std::vector<T> seen;
    seen.resize(2 * block * width);
    const Part part(i, parts, pixels);
    // Of nearly one size: a short rest would read all sums for few pixels.
    const int64_t blocks = std::max<int64_t>(1, (part.end - part.begin) / block);
    for (int64_t nth = 0; nth < blocks; ++nth) {
      const Part some(nth, blocks, part.end - part.begin);
      const int64_t begin = part.begin + some.begin, count = some.end - some.begin;
      gradient(begin, begin + count, seen.data());
      multiply<T, LI>(seen.data(), transposed.data(), false, Nothing(), count, width, lanes, -1,
                      input_gradient + begin * depth);
      sums.add(i, inputs + begin * depth, seen.data(), count, 0, sums.tiles());
    }
  });
  sums.finish(pool, kernel_gradient);
}
