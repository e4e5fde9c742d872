// Vectors of channels, in the compiler's own vector types: no intrinsics, so that any processor will do.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

template <class T, int L>
struct Vector {
  typedef T Type __attribute__((vector_size(sizeof(T) * L), aligned(alignof(T)), may_alias));
};

template <class T, int L>
using Vec = typename Vector<T, L>::Type;

template <class T, int L>
inline Vec<T, L> load(const T* from) {
  return *reinterpret_cast<const Vec<T, L>*>(from);
}

template <class T, int L>
inline void store(T* to, Vec<T, L> value) {
  *reinterpret_cast<Vec<T, L>*>(to) = value;
}

// Where the vectors of a row of `channels` begin. The last one ends with the row, so it may overlap the one before:
// what lies under both is computed twice, and there is no rest.
template <int L>
struct Lanes {
  explicit Lanes(int64_t channels) : channels(channels), count((channels + L - 1) / L) {}
  int64_t offset(int64_t vector) const { return std::min<int64_t>(vector * L, channels - L); }
  // Where channel `c` lies in an array of `count` whole vectors.
  int64_t slot(int64_t c) const {
    const int64_t vector = c / L;
    return vector * L + c - offset(vector);
  }
  const int64_t channels, count;
};

// Calls `function.template operator()<L>()` with the widest vector that `channels` fill; doubles have one width only,
// as nobody trains in them.
template <class T, class Function>
void with_lanes(int64_t channels, Function&& function) {
  if constexpr (sizeof(T) == 4) {
    if (channels >= 16) return function.template operator()<16>();
    if (channels >= 8) return function.template operator()<8>();
  } else {
    if (channels >= 4) return function.template operator()<4>();
  }
  function.template operator()<1>();
}
