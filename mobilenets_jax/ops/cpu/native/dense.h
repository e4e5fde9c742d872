// Convolution of all channels with all, and its gradients: products of what the outputs see, a tall matrix, with a
// small one of weights, and of two tall ones.
#pragma once

#include "activations.h"
#include "batch_norm.h"
#include "geometry.h"
#include "parallel.h"
#include "products.h"
#include "vectors.h"

// outputs [width] of one row of inputs and weights [depth, width]. Each core reads a part of the rows of weights one
// after the other, as they lie: what one row of inputs takes is reading them.
template <class T, int L, class Epilogue>
void dense_row(xla::ffi::ThreadPool& pool, const T* inputs, const T* weights, const Epilogue& epilogue, int64_t depth,
               int64_t width, T* outputs) {
  constexpr int64_t ahead = 1024 / sizeof(T);  // how many values ahead memory is asked for
  const Lanes<L> lanes(width);
  // A part for each core: the last bits depend on how many there are.
  const int64_t parts = std::clamp<int64_t>(depth / 64, 1, pool.num_threads()), size = lanes.count * L;
  std::vector<T> sums(parts * size);
  parallel_for(pool, parts, [&](int64_t i) {
    const Part part(i, parts, depth);
    T* sum = sums.data() + i * size;
    for (int64_t k = part.begin; k < part.end; ++k) {
      const T input = inputs[k], *row = weights + k * width;
      for (int64_t v = 0; v < lanes.count; ++v) {
        __builtin_prefetch(row + lanes.offset(v) + ahead, 0, 2);
        store<T, L>(sum + v * L, load<T, L>(sum + v * L) + load<T, L>(row + lanes.offset(v)) * input);
      }
    }
  });
  for (int64_t v = 0; v < lanes.count; ++v) {
    Vec<T, L> total = {};
    for (int64_t i = 0; i < parts; ++i) total += load<T, L>(sums.data() + i * size + v * L);
    T* to = outputs + lanes.offset(v);
    store<T, L>(to, epilogue.template at<Vec<T, L>>(lanes.offset(v))(total, to));
  }
}

// outputs [N, H', W', width] of inputs [N, H, W, C] and kernel [kh, kw, C, width], and, unless `totals` is null, the
// sums of the outputs and of their squares, [2, width].
template <class T, int L, class Epilogue>
void dense(xla::ffi::ThreadPool& pool, const T* inputs, const NormBefore<T>& before, const T* kernel,
           const Epilogue& epilogue, const Geometry& g, int64_t width, T* outputs, Wide<T>* totals) {
  const Seen<T> seen(inputs, g, before);
  const int64_t pixels = g.out_pixels(), depth = seen.depth;
  if constexpr (std::is_same_v<T, Wide<T>>)
    if (pixels == 1 && totals == nullptr) {
      std::vector<T> buffer;
      return dense_row<T, L>(pool, seen.rows(0, 1, buffer), kernel, epilogue, depth, width, outputs);
    }
  // Few pixels are not worth packing weights for. Each core reads all weights for its pixels, or all pixels for its
  // channels if they are less.
  const bool pack = pixels >= 2048, by_channels = pixels < few_pixels;
  const Product<T, L> product(pool, kernel, depth, width, width, 1, pack);
  // Where each core has one part of the pixels, a turn is some channels of it, so that who is done can help.
  const bool by_groups = by_channels || (!pack && totals == nullptr && g.pointwise());
  const int64_t groups = by_groups ? product.groups() : 1;
  // What a batch norm before makes of a part stays in the cache.
  const int64_t pixels_of_part = before.apply ? std::clamp<int64_t>(65536 / depth, 64, 256) : 256;
  const int64_t parts = pack                ? pixels / pixels_of_part
                        : by_channels       ? std::max<int64_t>(1, pixels / product.few_rows)
                        : totals == nullptr ? std::min<int64_t>(pool.num_threads(), pixels / product.few_rows)
                                            : pixels / few_pixels;  // sums do not depend on the threads
  PixelSums<T, L, 2> sums(totals == nullptr || by_channels ? 0 : parts, width);
  parallel_for(pool, parts * groups, [&](int64_t turn) {
    static thread_local std::vector<T> buffer;
    // One turn after the other reads the same weights if a core has some channels, else the same pixels.
    const Part part(by_channels ? turn % parts : turn / groups, parts, pixels, product.unit);
    const int64_t group = by_channels ? turn / parts : turn % groups;
    T* to = outputs + part.begin * width;
    Ahead ahead;
    if (pack && turn + 1 < parts) {  // the next turn is mostly this core's, too
      const Part next(turn + 1, parts, pixels, product.unit);
      if (g.pointwise()) ahead.add(inputs, next, depth);
      ahead.add(outputs, next, width);
    }
    product(seen.rows(part.begin, part.end, buffer), part.end - part.begin, epilogue, by_groups ? group : -1, to,
            &ahead);
    if (totals != nullptr && !by_channels) sums.add(turn, 0, part.end - part.begin, moments<T, L>(to, width));
  });
  if (totals == nullptr) return;
  by_channels ? norm_sums<T, L>(pool, outputs, pixels, width, totals) : sums.finish(totals);
}

// The gradient of the kernel, [kh, kw, C, width], from inputs [N, H, W, C] and gradients of outputs [N, H', W', width].
template <class T, int L, int M>
void dense_kernel_gradient(xla::ffi::ThreadPool& pool, const T* inputs, const T* gradients, const Geometry& g,
                           int64_t width, T* kernel_gradient) {
  constexpr int64_t block = KernelGradient<T, L, M>::block, turns = 16;
  const NormBefore<T> nothing;
  const Seen<T> seen(inputs, g, nothing);
  const int64_t pixels = g.out_pixels(), parts = std::clamp<int64_t>(pixels / 1024, 1, turns);
  KernelGradient<T, L, M> sums(parts, seen.depth, width);
  const int64_t divisions = std::min((turns + parts - 1) / parts, sums.tiles());
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
void pointwise_norm_gradient(xla::ffi::ThreadPool& pool, const T* inputs, const NormBefore<T>& before,
                             const T* weights, const NormGradient<T, LO>& gradient, int64_t pixels, int64_t depth,
                             T* input_gradient, T* kernel_gradient) {
  using Sums = KernelGradient<T, LO, M>;
  constexpr int64_t block = Sums::block;
  const int64_t width = gradient.lanes.channels;
  const int64_t parts = std::clamp<int64_t>(pixels / (2 * block), 1, NormBefore<T>::max_parts);
  const Product<T, LI> transposed(pool, weights, width, depth, 1, width);
  Sums sums(parts, depth, width);
  parallel_for(pool, parts, [&](int64_t i) {
    static thread_local std::vector<T> seen, normalized;
    seen.resize(2 * block * width);
    const Part part(i, parts, pixels);
    // Of nearly one size: a short rest would read all sums for few pixels.
    const int64_t blocks = std::max<int64_t>(1, (part.end - part.begin) / block);
    for (int64_t nth = 0; nth < blocks; ++nth) {
      const Part some(nth, blocks, part);
      const int64_t begin = some.begin, count = some.end - some.begin;
      gradient(begin, begin + count, seen.data());
      Ahead ahead;
      if (nth + 1 < blocks) {
        const Part next(nth + 1, blocks, part);
        ahead.add(inputs, next, depth), ahead.add(input_gradient, next, depth);
        ahead.add(gradient.outputs, next, width), ahead.add(gradient.gradients, next, width);
      }
      transposed(seen.data(), count, Nothing(), -1, input_gradient + begin * depth, &ahead);
      if (before.sum) before.sum(i, begin, begin + count);
      sums.add(i, before.seen(inputs + begin * depth, count, depth, normalized), seen.data(), count, 0, sums.tiles(),
               &ahead);
    }
  });
  sums.finish(pool, kernel_gradient);
}
