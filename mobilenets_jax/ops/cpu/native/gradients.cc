// The gradients of operations, as XLA calls them.

#include "calls.h"
#include "dense.h"
#include "depthwise_gradient.h"
#include "grouped.h"

ffi::Error NormGradientSums(ThreadPool pool, AnyBuffer inputs, AnyBuffer gradients, AnyBuffer constants, Out totals,
                            int64_t activation) {
  return with_lanes_of(inputs, [&]<class T, int L>() {
    with_activation<Wide<T>>(activation, [&](auto function) {
      norm_gradient_sums<T, L>(pool, function, data<T>(inputs), data<T>(gradients), data<Wide<T>>(constants),
                               pixels_of(inputs), channels_of(inputs), data<Wide<T>>(*totals));
    });
  });
}

template <class T, int L>
NormGradient<T, L> norm_gradient_of(const AnyBuffer& outputs, const AnyBuffer& gradients, const AnyBuffer& constants,
                                    int64_t activation) {
  return {data<T>(outputs), data<T>(gradients), data<Wide<T>>(constants), Lanes<L>(channels_of(outputs)), activation};
}

ffi::Error NormGradientApply(ThreadPool pool, AnyBuffer inputs, AnyBuffer gradients, AnyBuffer constants, Out outputs,
                             int64_t activation) {
  return with_lanes_of(inputs, [&]<class T, int L>() {
    norm_gradient_apply<T, L>(pool, norm_gradient_of<T, L>(inputs, gradients, constants, activation), pixels_of(inputs),
                              data<T>(*outputs));
  });
}

ffi::Error DenseKernelGradient(ThreadPool pool, AnyBuffer inputs, AnyBuffer gradients, Out kernel_gradient,
                               int64_t stride, int64_t dilation, int64_t top, int64_t left) {
  const Geometry g = geometry_of(inputs, *kernel_gradient, gradients, stride, dilation, top, left);
  return with_lanes_of(gradients, [&]<class T, int L>() {
    with_rows_of_sums(g.taps() * g.channels, [&]<int M>() {
      dense_kernel_gradient<T, L, M>(pool, data<T>(inputs), data<T>(gradients), g, channels_of(gradients),
                                     data<T>(*kernel_gradient));
    });
  });
}

// Calls `function(before)` with the batch norm whose outputs a convolution sees, that is of its `inputs`, by constants
// [4, C], see `gradient_moments`, or none by [0]; and sums for the gradient of it, to totals [2, C].
template <class T, class Function>
void with_norm_before(const AnyBuffer& inputs, const AnyBuffer& gradients, const AnyBuffer& constants,
                      int64_t activation, const AnyBuffer& totals, Function&& function) {
  if (constants.element_count() == 0) return function(NormBefore<T>());
  const int64_t channels = channels_of(inputs);
  const Wide<T>* rows = data<Wide<T>>(constants);
  with_lanes<T>(channels, [&]<int L>() {
    PixelSums<T, L, 2> sums(NormBefore<T>::max_parts, channels);
    NormBefore<T> before{Constants<Wide<T>>(rows, rows + channels).template map<T>(channels, activation), {}};
    with_activation<Wide<T>>(activation, [&](auto activate) {
      const auto terms = gradient_moments<T, L>(activate, data<T>(inputs), data<T>(gradients), rows, channels);
      before.sum = [=, &sums](int64_t part, int64_t begin, int64_t end) { sums.add(part, begin, end, terms); };
    });
    function(before);
    sums.finish(data<Wide<T>>(totals));
  });
}

ffi::Error PointwiseNormGradient(ThreadPool pool, AnyBuffer inputs, AnyBuffer weights, AnyBuffer outputs,
                                 AnyBuffer gradients, AnyBuffer constants, AnyBuffer constants_before,
                                 Out input_gradient, Out kernel_gradient, Out totals_before, int64_t activation,
                                 int64_t activation_before) {
  return with_lanes_of(outputs, [&]<class T, int LO>() {
    const auto gradient = norm_gradient_of<T, LO>(outputs, gradients, constants, activation);
    with_norm_before<T>(inputs, *input_gradient, constants_before, activation_before, *totals_before,
                        [&](const NormBefore<T>& before) {
      with_lanes<T>(channels_of(inputs), [&]<int LI>() {
        with_rows_of_sums(channels_of(inputs), [&]<int M>() {
          pointwise_norm_gradient<T, LI, LO, M>(pool, data<T>(inputs), before, data<T>(weights), gradient,
                                                pixels_of(inputs), channels_of(inputs), data<T>(*input_gradient),
                                                data<T>(*kernel_gradient));
        });
      });
    });
  });
}

ffi::Error GroupedNormGradient(ThreadPool pool, AnyBuffer inputs, AnyBuffer kernel, AnyBuffer outputs,
                               AnyBuffer gradients, AnyBuffer constants, Out input_gradient, Out kernel_gradient,
                               int64_t activation, int64_t count, int64_t shuffled) {
  const Groups g{count, channels_of(inputs), channels_of(outputs), shuffled != 0};
  return with_lanes_of_groups(inputs, g, [&]<class T, int L>() {
    with_rows_of_sums(g.depth(), [&]<int M>() {
      grouped_norm_gradient<T, L, M>(pool, data<T>(inputs), data<T>(kernel),
                                     norm_gradient_of<T, L>(outputs, gradients, constants, activation), g,
                                     pixels_of(inputs), data<T>(*input_gradient), data<T>(*kernel_gradient));
    });
  });
}

ffi::Error DepthwiseGradient(ThreadPool pool, AnyBuffer inputs, AnyBuffer kernel, AnyBuffer gradients,
                             Out input_gradient, Out kernel_gradient, int64_t stride, int64_t dilation, int64_t top,
                             int64_t left) {
  return with_lanes_of(inputs, [&]<class T, int L>() {
    depthwise_gradient<T, L>(pool, data<T>(inputs), NormBefore<T>(), data<T>(kernel), data<T>(gradients), nullptr,
                             geometry_of(inputs, kernel, gradients, stride, dilation, top, left),
                             data<T>(*input_gradient), data<T>(*kernel_gradient));
  });
}

ffi::Error DepthwiseNormGradient(ThreadPool pool, AnyBuffer inputs, AnyBuffer kernel, AnyBuffer outputs,
                                 AnyBuffer gradients, AnyBuffer constants, AnyBuffer constants_before,
                                 Out input_gradient, Out kernel_gradient, Out totals_before, int64_t activation,
                                 int64_t activation_before, int64_t stride, int64_t dilation, int64_t top,
                                 int64_t left) {
  return with_lanes_of(inputs, [&]<class T, int L>() {
    const auto gradient = norm_gradient_of<T, L>(outputs, gradients, constants, activation);
    with_norm_before<T>(inputs, *input_gradient, constants_before, activation_before, *totals_before,
                        [&](const NormBefore<T>& before) {
      depthwise_gradient<T, L>(pool, data<T>(inputs), before, data<T>(kernel), data<T>(gradients), &gradient,
                               geometry_of(inputs, kernel, gradients, stride, dilation, top, left),
                               data<T>(*input_gradient), data<T>(*kernel_gradient));
    });
  });
}

KERNEL(norm_gradient_sums, NormGradientSums, TAKES TAKES TAKES GIVES NUMBER("activation"));
KERNEL(norm_gradient_apply, NormGradientApply, TAKES TAKES TAKES GIVES NUMBER("activation"));
KERNEL(dense_kernel_gradient, DenseKernelGradient, TAKES TAKES GIVES GEOMETRY);
KERNEL(pointwise_norm_gradient, PointwiseNormGradient,
       TAKES TAKES TAKES TAKES TAKES TAKES GIVES GIVES GIVES NUMBER("activation") NUMBER("activation_before"));
KERNEL(grouped_norm_gradient, GroupedNormGradient,
       TAKES TAKES TAKES TAKES TAKES GIVES GIVES NUMBER("activation") NUMBER("groups") NUMBER("shuffled"));
KERNEL(depthwise_gradient, DepthwiseGradient, TAKES TAKES TAKES GIVES GIVES GEOMETRY);
KERNEL(depthwise_norm_gradient, DepthwiseNormGradient,
       TAKES TAKES TAKES TAKES TAKES TAKES GIVES GIVES GIVES NUMBER("activation") NUMBER("activation_before") GEOMETRY);
