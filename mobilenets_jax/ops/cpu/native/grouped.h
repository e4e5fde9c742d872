// Pointwise convolution in groups, which map a part of the channels each, and its gradients.
#pragma once

#include "activations.h"
#include "batch_norm.h"
#include "parallel.h"
#include "products.h"
#include "vectors.h"

struct Groups {
  int64_t count, in_channels, out_channels;
  bool shuffled;  // whether group g sees every count-th channel from g on, instead of a contiguous part
  int64_t depth() const { return in_channels / count; }
  int64_t width() const { return out_channels / count; }
};

// Calls `move(at, place)` for where every value lies in [pixels, channels], and by groups, [groups, pixels, channels /
// groups].
template <class Move>
void by_groups(int64_t pixels, int64_t channels, int64_t groups, bool shuffled, Move&& move) {
  const int64_t size = channels / groups, next = shuffled ? groups : 1, next_group = shuffled ? 1 : size;
  for (int64_t pixel = 0; pixel < pixels; ++pixel)
    for (int64_t group = 0; group < groups; ++group)
      for (int64_t k = 0; k < size; ++k)
        move(pixel * channels + group * next_group + k * next, (group * pixels + pixel) * size + k);
}

// Some pixels that lie in the cache while they are computed with. At 224 px these divide all images into whole tiles.
constexpr int64_t pixels_by_groups = 98;

// An epilogue for the channels of a group, which begin at `first`.
template <class Epilogue>
struct OfGroup {
  const Epilogue& epilogue;
  int64_t first;

  template <class V>
  auto at(int64_t channel) const { return epilogue.template at<V>(first + channel); }
};

// outputs [pixels, out_channels] of inputs [pixels, in_channels] and kernel [depth, out_channels], and, unless `totals`
// is null, the sums of the outputs and of their squares, [2, out_channels].
template <class T, int L, class Epilogue>
void grouped(xla::ffi::ThreadPool& pool, const T* inputs, const T* kernel, const Epilogue& epilogue, const Groups& g,
             int64_t pixels, T* outputs, T* totals) {
  std::vector<Product<T, L>> products;
  for (int64_t group = 0; group < g.count; ++group)
    products.emplace_back(pool, kernel + group * g.width(), g.depth(), g.width(), g.out_channels, 1);
  const int64_t parts = std::max<int64_t>(1, pixels / pixels_by_groups);
  PixelSums<T, L, 2> sums(totals == nullptr ? 0 : parts, g.out_channels);
  parallel_for(pool, parts, [&](int64_t i) {
    static thread_local std::vector<T> seen;
    const Part part(i, parts, pixels);
    const int64_t count = part.end - part.begin;
    const T* from = inputs + part.begin * g.in_channels;
    T* to = outputs + part.begin * g.out_channels;
    seen.resize(count * g.in_channels);
    by_groups(count, g.in_channels, g.count, g.shuffled, [&](int64_t at, int64_t place) { seen[place] = from[at]; });
    for (int64_t group = 0; group < g.count; ++group)
      products[group].multiply(seen.data() + group * count * g.depth(), count,
                               OfGroup<Epilogue>{epilogue, group * g.width()}, -1, to + group * g.width(),
                               g.out_channels);
    if (totals != nullptr) sums.add(i, 0, count, moments<T, L>(to, g.out_channels));
  });
  if (totals != nullptr) sums.finish(totals);
}

// Both gradients, where a batch norm follows; see pointwise_norm_gradient.
template <class T, int L, int M>
void grouped_norm_gradient(xla::ffi::ThreadPool& pool, const T* inputs, const T* kernel,
                           const NormGradient<T, L>& gradient, const Groups& g, int64_t pixels, T* input_gradient,
                           T* kernel_gradient) {
  const int64_t depth = g.depth(), width = g.width(), parts = std::clamp<int64_t>(pixels / pixels_by_groups, 1, 16);
  std::vector<Product<T, L>> transposed;
  std::vector<KernelGradient<T, L, M>> sums;
  for (int64_t group = 0; group < g.count; ++group) {
    transposed.emplace_back(pool, kernel + group * width, width, depth, 1, g.out_channels);
    sums.emplace_back(parts, depth, width);
  }
  parallel_for(pool, parts, [&](int64_t i) {
    static thread_local std::vector<T> all, gradients, seen, of_seen;
    const Part part(i, parts, pixels);
    const int64_t blocks = std::max<int64_t>(1, (part.end - part.begin) / pixels_by_groups);
    for (int64_t nth = 0; nth < blocks; ++nth) {
      const Part some(nth, blocks, part.end - part.begin);
      const int64_t begin = part.begin + some.begin, count = some.end - some.begin;
      const T* from = inputs + begin * g.in_channels;
      T* to = input_gradient + begin * g.in_channels;
      all.resize(count * g.out_channels), gradients.resize(count * g.out_channels);
      seen.resize(count * g.in_channels), of_seen.resize(count * g.in_channels);
      gradient(begin, begin + count, all.data());
      by_groups(count, g.out_channels, g.count, false, [&](int64_t at, int64_t place) { gradients[place] = all[at]; });
      by_groups(count, g.in_channels, g.count, g.shuffled, [&](int64_t at, int64_t place) { seen[place] = from[at]; });
      for (int64_t group = 0; group < g.count; ++group) {
        const T* some_gradients = gradients.data() + group * count * width;
        transposed[group](some_gradients, count, Nothing(), -1, of_seen.data() + group * count * depth);
        sums[group].add(i, seen.data() + group * count * depth, some_gradients, count, 0, sums[group].tiles());
      }
      by_groups(count, g.in_channels, g.count, g.shuffled, [&](int64_t at, int64_t place) { to[at] = of_seen[place]; });
    }
  });
  for (int64_t group = 0; group < g.count; ++group)
    sums[group].finish(pool, kernel_gradient + group * width, g.out_channels);
}
