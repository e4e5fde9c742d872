// What the operations that XLA calls share. Shapes are checked by the Python functions that make the calls.
#pragma once

#include "activations.h"
#include "batch_norm.h"
#include "geometry.h"
#include "grouped.h"
#include "parallel.h"
#include "tiles.h"
#include "vectors.h"

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

inline int64_t channels_of(const AnyBuffer& buffer) { return buffer.dimensions().back(); }
inline int64_t pixels_of(const AnyBuffer& buffer) { return buffer.element_count() / channels_of(buffer); }
inline int64_t pixels_of_image(const AnyBuffer& buffer) { return buffer.dimensions()[1] * buffer.dimensions()[2]; }

template <class T>
T* data(const AnyBuffer& buffer) {
  return reinterpret_cast<T*>(buffer.untyped_data());
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

// `inputs` and `outputs` [N, H, W, C], `kernel` [kh, kw, ...].
inline Geometry geometry_of(const AnyBuffer& inputs, const AnyBuffer& kernel, const AnyBuffer& outputs,
                            int64_t stride, int64_t dilation, int64_t top, int64_t left) {
  const auto in = inputs.dimensions(), taps = kernel.dimensions(), out = outputs.dimensions();
  return {in[0], in[1], in[2], in[3], out[1], out[2], taps[0], taps[1], stride, dilation, top, left};
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

#define TAKES .Arg<AnyBuffer>()
#define TAKES_MORE .RemainingArgs()
#define GIVES .Ret<AnyBuffer>()
#define NUMBER(name) .Attr<int64_t>(name)
#define KERNEL(name, function, binding) \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name##_handler, function, ffi::Ffi::Bind().Ctx<ThreadPool>() binding)

#define GEOMETRY NUMBER("stride") NUMBER("dilation") NUMBER("top") NUMBER("left")
