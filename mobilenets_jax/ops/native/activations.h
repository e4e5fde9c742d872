// Activations of vectors: their values, and what they let through of a gradient.
#pragma once

#include <cstdint>
#include <limits>

// min(max(x, low), high): linear, relu and relu6. What is no number stays none.
template <class T>
struct Clamp {
  T low, high;
  template <class V>
  V value(V x) const {
    const V raised = x < low ? V{} + low : x;
    return raised > high ? V{} + high : raised;
  }
  template <class V>
  V gradient(V x, V g) const {
    const V above = x > low ? g : V{};
    return x < high ? above : V{};
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

// What follows a convolution: activation(outputs * factor + shift), by channels; nothing if there are no factors.
template <class T>
struct Epilogue {
  const T *factor = nullptr, *shift = nullptr;
  int64_t activation = 0;

  template <class V>
  V operator()(V outputs, int64_t channel) const {
    if (factor == nullptr) return outputs;
    const auto at = [channel](const T* constants) { return *reinterpret_cast<const V*>(constants + channel); };
    V result = outputs * at(factor) + at(shift);
    with_activation<T>(activation, [&](auto function) { result = function.template value<V>(result); });
    return result;
  }
};
