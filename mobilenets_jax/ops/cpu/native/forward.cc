// The operations forward, as XLA calls them.

#include "calls.h"
#include "dense.h"
#include "depthwise.h"
#include "grouped.h"
#include "separable.h"
#include "squeeze.h"

// Where the sums of [2, C] go, or null for [0, C].
template <class T>
Wide<T>* totals_of(const AnyBuffer& totals) {
  return totals.element_count() == 0 ? nullptr : data<Wide<T>>(totals);
}

ffi::Error NormSums(ThreadPool pool, AnyBuffer inputs, Out totals) {
  return with_lanes_of(inputs, [&]<class T, int L>() {
    norm_sums<T, L>(pool, data<T>(inputs), pixels_of(inputs), channels_of(inputs), data<Wide<T>>(*totals));
  });
}

ffi::Error NormApply(ThreadPool pool, AnyBuffer inputs, ffi::RemainingArgs statistics, Out outputs,
                     int64_t activation) {
  return with_lanes_of(inputs, [&]<class T, int L>() {
    const Constants<Wide<T>> constants(statistics, 0);
    constants.with_epilogue(activation, [&](auto epilogue) {
      norm_apply<T, L>(pool, epilogue, data<T>(inputs), pixels_of(inputs), channels_of(inputs), data<T>(*outputs));
    });
  });
}

// A normalisation may lie `before` a convolution, whose inputs are normalised where they are read.
ffi::Error Dense(ThreadPool pool, AnyBuffer inputs, AnyBuffer kernel, AnyBuffer others, ffi::RemainingArgs statistics,
                 Out outputs, Out totals, int64_t activation, int64_t activation_before, int64_t stride,
                 int64_t dilation, int64_t top, int64_t left) {
  return with_lanes_of(*outputs, [&]<class T, int L>() {
    const Constants<Wide<T>> constants(statistics, 0), before(statistics, 1);
    const NormBefore<T> norm{before.template map<T>(channels_of(inputs), activation_before), {}};
    constants.with_epilogue_and_add(activation, &others, data<T>(*outputs), [&](auto epilogue) {
      dense<T, L>(pool, data<T>(inputs), norm, data<T>(kernel), epilogue,
                  geometry_of(inputs, kernel, *outputs, stride, dilation, top, left), channels_of(*outputs),
                  data<T>(*outputs), totals_of<T>(*totals));
    });
  });
}

ffi::Error Grouped(ThreadPool pool, AnyBuffer inputs, AnyBuffer kernel, ffi::RemainingArgs statistics, Out outputs,
                   Out totals, int64_t activation, int64_t count, int64_t shuffled) {
  const Groups g{count, channels_of(inputs), channels_of(*outputs), shuffled != 0};
  return with_lanes_of_groups(inputs, g, [&]<class T, int L>() {
    const Constants<T> constants(statistics, 0);
    constants.with_epilogue(activation, [&](auto epilogue) {
      grouped<T, L>(pool, data<T>(inputs), data<T>(kernel), epilogue, g, pixels_of(inputs), data<T>(*outputs),
                    totals_of<T>(*totals));
    });
  });
}

// The rows of a depthwise convolution, normalised; `weights`, `g` and the arrays of `constants` must outlive them.
template <class T, int L>
ForwardRow<T, L> forward_row_of(const Wide<T>* weights, const Constants<Wide<T>>& constants, int64_t activation,
                                const Geometry& g) {
  ForwardRow<T, L> forward;
  with_kernel(g, [&]<int K, int S>() {
    constants.with_epilogue(activation, [&](auto epilogue) {
      forward = [=, &g](const Rows<T>& rows, const Lanes<L>& lanes, T* out) {
        forward_row<T, L, K, K, S>(rows, weights, g, lanes, epilogue, out, g.channels);
      };
    });
  });
  return forward;
}

// The same as a step, all channels of one row.
template <class T>
auto depthwise_step(const Wide<T>* weights, const Constants<Wide<T>>& constants, int64_t activation,
                    const Geometry& g) {
  decltype(Steps<T>::depthwise) step;
  with_lanes<T>(g.channels, [&]<int L>() {
    step = [forward = forward_row_of<T, L>(weights, constants, activation, g), lanes = Lanes<L>(g.channels)](
               const Rows<T>& rows, T* out) { forward(rows, lanes, out); };
  });
  return step;
}

// A normalisation may lie before it, see `Dense`.
ffi::Error Depthwise(ThreadPool pool, AnyBuffer inputs, AnyBuffer kernel, ffi::RemainingArgs statistics, Out outputs,
                     Out totals, int64_t activation, int64_t activation_before, int64_t stride, int64_t dilation,
                     int64_t top, int64_t left) {
  const Geometry g = geometry_of(inputs, kernel, *outputs, stride, dilation, top, left);
  return with_lanes_of(inputs, [&]<class T, int L>() {
    const Constants<Wide<T>> constants(statistics, 0), before(statistics, 1);
    const Widened<T> weights(data<T>(kernel), g.taps() * g.channels);
    Steps<T> steps{.expand = before.template map<T>(g.channels, activation_before)};
    if (!steps.expand)
      return depthwise<T, L>(pool, data<T>(inputs), forward_row_of<T, L>(weights.data(), constants, activation, g), g,
                             data<T>(*outputs), totals_of<T>(*totals));
    steps.depthwise = depthwise_step<T>(weights.data(), constants, activation, g);
    PixelSums<T, L, 2> sums(steps.parts_of_sums, g.channels);
    steps.sum = [&](int64_t part, int64_t begin, int64_t end) {
      sums.add(part, begin, end, moments<T, L>(data<T>(*outputs), g.channels));
    };
    separable<T>(pool, data<T>(inputs), g.channels, g, steps, g.channels, data<T>(*outputs));
    if (auto* to = totals_of<T>(*totals)) sums.finish(to);
  });
}

// The step of a pointwise convolution with kernel [1, 1, depth, width], or none if that has no elements.
template <class T>
MapPixels<T> pointwise_step(ThreadPool& pool, const AnyBuffer& kernel, const Constants<Wide<T>>& constants,
                            int64_t activation, const AnyBuffer* others = nullptr, T* outputs = nullptr) {
  MapPixels<T> step;
  if (kernel.element_count() == 0) return step;
  const int64_t width = channels_of(kernel), depth = pixels_of(kernel);
  with_lanes<T>(width, [&]<int L>() {
    const auto product = std::make_shared<const Product<T, L>>(pool, data<T>(kernel), depth, width, width, 1);
    constants.with_epilogue_and_add(activation, others, outputs, [&](auto epilogue) {
      step = [=](const T* inputs, int64_t pixels, T* outputs) { (*product)(inputs, pixels, epilogue, -1, outputs); };
    });
  });
  return step;
}

ffi::Error Separable(ThreadPool pool, AnyBuffer inputs, AnyBuffer expand_kernel, AnyBuffer kernel,
                     AnyBuffer project_kernel, AnyBuffer others, ffi::RemainingArgs statistics, Out outputs,
                     int64_t expand_activation, int64_t activation, int64_t project_activation, int64_t stride,
                     int64_t dilation, int64_t top, int64_t left) {
  Geometry g = geometry_of(inputs, kernel, *outputs, stride, dilation, top, left);
  g.channels = channels_of(kernel);
  return with_type(inputs, [&]<class T>() {
    const Constants<Wide<T>> expanded(statistics, 0), convolved(statistics, 1), projected(statistics, 2);
    Steps<T> steps;
    steps.expand = pointwise_step<T>(pool, expand_kernel, expanded, expand_activation);
    steps.project = pointwise_step<T>(pool, project_kernel, projected, project_activation, &others, data<T>(*outputs));
    const Widened<T> weights(data<T>(kernel), g.taps() * g.channels);
    steps.depthwise = depthwise_step<T>(weights.data(), convolved, activation, g);
    separable<T>(pool, data<T>(inputs), channels_of(inputs), g, steps, channels_of(*outputs), data<T>(*outputs));
  });
}

ffi::Error GlobalAveragePool(ThreadPool pool, AnyBuffer inputs, Out means) {
  return with_lanes_of(inputs, [&]<class T, int L>() {
    const int64_t images = inputs.dimensions()[0], pixels = pixels_of_image(inputs);
    global_average_pool<T, L>(pool, data<T>(inputs), images, pixels, channels_of(inputs), data<T>(*means));
  });
}

ffi::Error ScaleChannels(ThreadPool pool, AnyBuffer inputs, AnyBuffer factors, Out outputs) {
  return with_lanes_of(inputs, [&]<class T, int L>() {
    const int64_t images = inputs.dimensions()[0], pixels = pixels_of_image(inputs);
    scale_channels<T, L>(pool, data<T>(inputs), data<T>(factors), images, pixels, channels_of(inputs),
                         data<T>(*outputs));
  });
}

// Whether there are kernels for brain floats on this machine.
extern "C" bool allows_bfloat16() {
#ifdef __AMX_BF16__
  return allow_tiles();
#else
  return false;
#endif
}

KERNEL(norm_sums, NormSums, TAKES GIVES);
KERNEL(norm_apply, NormApply, TAKES TAKES_MORE GIVES NUMBER("activation"));
KERNEL(dense, Dense,
       TAKES TAKES TAKES TAKES_MORE GIVES GIVES NUMBER("activation") NUMBER("activation_before") GEOMETRY);
KERNEL(grouped, Grouped,
       TAKES TAKES TAKES_MORE GIVES GIVES NUMBER("activation") NUMBER("groups") NUMBER("shuffled"));
KERNEL(depthwise, Depthwise,
       TAKES TAKES TAKES_MORE GIVES GIVES NUMBER("activation") NUMBER("activation_before") GEOMETRY);
KERNEL(separable, Separable,
       TAKES TAKES TAKES TAKES TAKES TAKES_MORE GIVES NUMBER("expand_activation") NUMBER("depthwise_activation")
       NUMBER("project_activation") GEOMETRY);
KERNEL(global_average_pool, GlobalAveragePool, TAKES GIVES);
KERNEL(scale_channels, ScaleChannels, TAKES TAKES GIVES);
