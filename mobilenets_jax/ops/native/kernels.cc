// The operations as XLA calls them. Shapes are checked by the Python functions that make the calls.

#include "batch_norm.h"
#include "dense.h"
#include "depthwise.h"
#include "grouped.h"
#include "parallel.h"
#include "separable.h"
#include "squeeze.h"
#include "tiles.h"

namespace ffi = xla::ffi;
using ffi::AnyBuffer;
using ffi::ThreadPool;
using Out = ffi::Result<AnyBuffer>;

// Calls `function.template operator()<T>()` for the buffer's type.
template <class Function>
ffi::Error with_type(const AnyBuffer& buffer, Function&& function) {
  switch (buffer.element_type()) {
    case ffi::F32: function.template operator()<float>(); return ffi::Error::Success();
    case ffi::F64: function.template operator()<double>(); return ffi::Error::Success();
#ifdef __AMX_BF16__
    case ffi::BF16: function.template operator()<Bfloat16>(); return ffi::Error::Success();
#endif
    default: return ffi::Error::InvalidArgument("there are no kernels for this dtype");
  }
}

// Calls `function.template operator()<T, L>()` for the buffer's type and its number of channels.
template <class Function>
ffi::Error with_lanes_of(const AnyBuffer& buffer, Function&& function) {
  return with_type(buffer, [&]<class T>() {
    with_lanes<T>(buffer.dimensions().back(), [&]<int L>() { function.template operator()<T, L>(); });
  });
}

int64_t channels_of(const AnyBuffer& buffer) { return buffer.dimensions().back(); }
int64_t pixels_of(const AnyBuffer& buffer) { return buffer.element_count() / channels_of(buffer); }
int64_t pixels_of_image(const AnyBuffer& buffer) { return buffer.dimensions()[1] * buffer.dimensions()[2]; }

template <class T>
T* data(const AnyBuffer& buffer) {
  return reinterpret_cast<T*>(buffer.untyped_data());
}

ffi::Error NormSums(ThreadPool pool, AnyBuffer inputs, Out totals) {
  return with_lanes_of(inputs, [&]<class T, int L>() {
    norm_sums<T, L>(pool, data<T>(inputs), pixels_of(inputs), channels_of(inputs), data<Wide<T>>(*totals));
  });
}

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

// A normalisation by known statistics: the `nth` two of `arrays` are factor and shift of each channel, [C], or [0] for
// none.
template <class T>
class Constants {
 public:
  Constants(const ffi::RemainingArgs& arrays, int64_t nth)
      : none_(arrays.get<AnyBuffer>(nth * 2)->element_count() == 0),
        factor_(data<T>(*arrays.get<AnyBuffer>(nth * 2))), shift_(data<T>(*arrays.get<AnyBuffer>(nth * 2 + 1))) {}
  Constants(const T* factor, const T* shift) : none_(false), factor_(factor), shift_(shift) {}

  // Calls `function(epilogue)`.
  template <class Function>
  void with_epilogue(int64_t activation, Function&& function) const {
    if (none_) return function(Nothing());
    with_activation<T>(activation, [&](auto activate) {
      function(ScaleAndActivate<T, decltype(activate)>{factor_, shift_, activate});
    });
  }

  // The same, but where there are `others`, they are added to the outputs; there is no activation then.
  template <class S, class Function>
  void with_epilogue_and_add(int64_t activation, const AnyBuffer* others, S* outputs, Function&& function) const {
    if (others == nullptr || others->element_count() == 0) return with_epilogue(activation, function);
    constexpr T infinity = std::numeric_limits<T>::infinity();
    const ScaleAndActivate<T, Clamp<T>> normalize{factor_, shift_, {-infinity, infinity}};
    function(AndAdd<S, ScaleAndActivate<T, Clamp<T>>>{normalize, outputs, data<S>(*others)});
  }

  // What it makes of pixels; empty where there is none.
  template <class S>
  MapPixels<S> map(int64_t channels, int64_t activation) const {
    MapPixels<S> result;
    if (none_) return result;
    with_lanes<S>(channels, [&]<int L>() {
      with_epilogue(activation, [&](auto epilogue) {
        result = [=](const S* inputs, int64_t pixels, S* outputs) {
          norm_pixels<S, L>(epilogue, Lanes<L>(channels), inputs, pixels, outputs);
        };
      });
    });
    return result;
  }

 private:
  const bool none_;
  const T *factor_, *shift_;
};

ffi::Error NormApply(ThreadPool pool, AnyBuffer inputs, ffi::RemainingArgs statistics, Out outputs,
                     int64_t activation) {
  return with_lanes_of(inputs, [&]<class T, int L>() {
    const Constants<Wide<T>> constants(statistics, 0);
    constants.with_epilogue(activation, [&](auto epilogue) {
      norm_apply<T, L>(pool, epilogue, data<T>(inputs), pixels_of(inputs), channels_of(inputs), data<T>(*outputs));
    });
  });
}

// Where the sums of [2, C] go, or null for [0, C].
template <class T>
Wide<T>* totals_of(const AnyBuffer& totals) {
  return totals.element_count() == 0 ? nullptr : data<Wide<T>>(totals);
}

// `inputs` and `outputs` [N, H, W, C], `kernel` [kh, kw, ...].
Geometry geometry_of(const AnyBuffer& inputs, const AnyBuffer& kernel, const AnyBuffer& outputs, int64_t stride,
                     int64_t dilation, int64_t top, int64_t left) {
  const auto in = inputs.dimensions(), taps = kernel.dimensions(), out = outputs.dimensions();
  return {in[0], in[1], in[2], in[3], out[1], out[2], taps[0], taps[1], stride, dilation, top, left};
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

// Calls `function.template operator()<T, L>()` for the buffer's type, which is no brain float, and vectors that the
// channels of each group fill.
template <class Function>
ffi::Error with_lanes_of_groups(const AnyBuffer& buffer, const Groups& g, Function&& function) {
  const auto with = [&]<class T>() {
    with_lanes<T>(std::min(g.depth(), g.width()), [&]<int L>() { function.template operator()<T, L>(); });
    return ffi::Error::Success();
  };
  switch (buffer.element_type()) {
    case ffi::F32: return with.template operator()<float>();
    case ffi::F64: return with.template operator()<double>();
    default: return ffi::Error::InvalidArgument("there are no kernels in groups for this dtype");
  }
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

// One row of a depthwise convolution with `weights` and `constants` behind it, which must outlive it, as `g`.
template <class T>
auto depthwise_step(const Wide<T>* weights, const Constants<Wide<T>>& constants, int64_t activation,
                    const Geometry& g) {
  decltype(Steps<T>::depthwise) step;
  with_lanes<T>(g.channels, [&]<int L>() {
    with_kernel(g, [&]<int K, int S>() {
      constants.with_epilogue(activation, [&](auto epilogue) {
        step = [=, &g](const Rows<T>& rows, T* outputs) {
          forward_row<T, L, K, S>(rows, weights, g, Lanes<L>(g.channels), epilogue, outputs);
        };
      });
    });
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
    Steps<T> steps{.expand = before.template map<T>(g.channels, activation_before)};
    if (!steps.expand)
      return constants.with_epilogue(activation, [&](auto epilogue) {
        depthwise<T, L>(pool, data<T>(inputs), data<T>(kernel), epilogue, g, data<T>(*outputs), totals_of<T>(*totals));
      });
    const Widened<T> weights(data<T>(kernel), g.taps() * g.channels);
    steps.depthwise = depthwise_step<T>(weights.data(), constants, activation, g);
    PixelSums<T, L, 2> sums(steps.parts_of_sums, g.channels);
    steps.sum = [&](int64_t part, int64_t begin, int64_t end) {
      sums.add(part, begin, end, moments<T, L>(data<T>(*outputs), g.channels));
    };
    separable<T>(pool, data<T>(inputs), g.channels, g, steps, g.channels, data<T>(*outputs));
    if (auto* to = totals_of<T>(*totals)) sums.finish(to);
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

#define TAKES .Arg<AnyBuffer>()
#define TAKES_MORE .RemainingArgs()
#define GIVES .Ret<AnyBuffer>()
#define NUMBER(name) .Attr<int64_t>(name)
#define KERNEL(name, function, binding) \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name##_handler, function, ffi::Ffi::Bind().Ctx<ThreadPool>() binding)

#define GEOMETRY NUMBER("stride") NUMBER("dilation") NUMBER("top") NUMBER("left")

KERNEL(norm_sums, NormSums, TAKES GIVES);
KERNEL(norm_apply, NormApply, TAKES TAKES_MORE GIVES NUMBER("activation"));
KERNEL(norm_gradient_sums, NormGradientSums, TAKES TAKES TAKES GIVES NUMBER("activation"));
KERNEL(norm_gradient_apply, NormGradientApply, TAKES TAKES TAKES GIVES NUMBER("activation"));
KERNEL(dense, Dense,
       TAKES TAKES TAKES TAKES_MORE GIVES GIVES NUMBER("activation") NUMBER("activation_before") GEOMETRY);
KERNEL(dense_kernel_gradient, DenseKernelGradient, TAKES TAKES GIVES GEOMETRY);
KERNEL(pointwise_norm_gradient, PointwiseNormGradient,
       TAKES TAKES TAKES TAKES TAKES TAKES GIVES GIVES GIVES NUMBER("activation") NUMBER("activation_before"));
KERNEL(grouped, Grouped,
       TAKES TAKES TAKES_MORE GIVES GIVES NUMBER("activation") NUMBER("groups") NUMBER("shuffled"));
KERNEL(grouped_norm_gradient, GroupedNormGradient,
       TAKES TAKES TAKES TAKES TAKES GIVES GIVES NUMBER("activation") NUMBER("groups") NUMBER("shuffled"));
KERNEL(depthwise, Depthwise,
       TAKES TAKES TAKES_MORE GIVES GIVES NUMBER("activation") NUMBER("activation_before") GEOMETRY);
KERNEL(depthwise_gradient, DepthwiseGradient, TAKES TAKES TAKES GIVES GIVES GEOMETRY);
KERNEL(depthwise_norm_gradient, DepthwiseNormGradient,
       TAKES TAKES TAKES TAKES TAKES TAKES GIVES GIVES GIVES NUMBER("activation") NUMBER("activation_before") GEOMETRY);
KERNEL(separable, Separable,
       TAKES TAKES TAKES TAKES TAKES TAKES_MORE GIVES NUMBER("expand_activation") NUMBER("depthwise_activation")
       NUMBER("project_activation") GEOMETRY);
KERNEL(global_average_pool, GlobalAveragePool, TAKES GIVES);
KERNEL(scale_channels, ScaleChannels, TAKES TAKES GIVES);
