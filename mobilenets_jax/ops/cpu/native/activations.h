// Activations of vectors: their values, and what they let through of a gradient.
#pragma once

#include <cstdint>
#include <limits>

#include "vectors.h"

// min(max(x, low), high): linear, relu and relu6. What is no number stays none.
template <class T>
struct Clamp {
  T low, high;
  template <class V>
  V value(V x) const {
    const V lows = V{} + low, highs = V{} + high;  // apart, or the compiler finds no instruction for min and max
    const V raised = x < lows ? lows : x;
    return raised > highs ? highs : raised;
  }
  template <class V>
  V gradient(V x, V g) const {
    const V lows = V{} + low, highs = V{} + high, above = x > lows ? g : V{};
    return x < highs ? above : V{};
  }
};

// x * relu6(x + 3) / 6.
template <class T>
struct HardSwish {
  template <class V>
  V value(V x) const { return x * Clamp<T>{0, 6}.template value<V>(x + 3) * T(1.0 / 6); }
  template <class V>
  V gradient(V x, V g) const {
    const V middle = x < 3 ? g * (2 * x + 3) * T(1.0 / 6) : g;
    return x > -3 ? middle : V{};
  }
};

// Calls `function(activation)` with the one of this number: linear, relu, relu6, hard_swish, as in __init__.py.
template <class T, class Function>
void with_activation(int64_t number, Function&& function) {
  constexpr T infinity = std::numeric_limits<T>::infinity();
  if (number == 3) return function(HardSwish<T>{});
  function(Clamp<T>{number == 0 ? -infinity : 0, number == 2 ? T(6) : infinity});
}

// What follows a convolution in the same pass, for the outputs of the channels from `channel` on that go to `to`:
// nothing.
struct Nothing {
  template <class V>
  auto at(int64_t) const {
    return [](V outputs, const auto*) { return outputs; };
  }
};

// Or activation(outputs * factor + shift), by channels.
template <class T, class Activation>
struct ScaleAndActivate {
  const T *factor, *shift;
  Activation activation;

  template <class V>
  auto at(int64_t channel) const {
    const auto constants = [channel](const T* from) { return *reinterpret_cast<const V*>(from + channel); };
    return [scale = constants(factor), offset = constants(shift), function = activation](V outputs, const auto*) {
      return function.template value<V>(outputs * scale + offset);
    };
  }
};

// Or that, and the values of another array of the outputs' shape are added.
template <class T, class Epilogue>
struct AndAdd {
  Epilogue epilogue;
  const T *outputs, *others;

  template <class V>
  auto at(int64_t channel) const {
    return [finished = epilogue.template at<V>(channel), from = others, begin = outputs](V sums, const T* to) {
      return finished(sums, to) + load<T, sizeof(V) / sizeof(Wide<T>)>(from + (to - begin));
    };
  }
};
