// Vectors of channels, in the compiler's own vector types, so that any processor will do.
#pragma once

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

// The upper half of a float. It is stored as that, and computed with as a float.
struct Bfloat16 {
  uint16_t bits;
};

// What values that are stored as T are computed with.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, Bfloat16>, float, T>;

template <class T, int L>
struct Vector {
  typedef T Type __attribute__((vector_size(sizeof(T) * L), aligned(alignof(T)), may_alias));
};

template <class T, int L>
using Vec = typename Vector<Wide<T>, L>::Type;

template <class T, int L>
inline Vec<T, L> load(const T* from) {
  if constexpr (std::is_same_v<T, Wide<T>>) return *reinterpret_cast<const Vec<T, L>*>(from);
#ifdef __AVX512BF16__  // what compilers make of the general form takes twice the instructions
  else if constexpr (L == 16) return _mm512_cvtpbh_ps((__m256bh)_mm256_loadu_si256((const __m256i*)from));
#endif
  else {
    using Words = typename Vector<uint32_t, L>::Type;
    const auto halves = *reinterpret_cast<const typename Vector<uint16_t, L>::Type*>(from);
    return reinterpret_cast<Vec<T, L>>(__builtin_convertvector(halves, Words) << 16);
  }
}

template <class T, int L>
inline void store(T* to, Vec<T, L> value) {
  if constexpr (std::is_same_v<T, Wide<T>>) *reinterpret_cast<Vec<T, L>*>(to) = value;
#ifdef __AVX512BF16__
  else if constexpr (L == 16) _mm256_storeu_si256((__m256i*)to, (__m256i)_mm512_cvtneps_pbh((__m512)value));
#endif
  else {
    using Halves = typename Vector<uint16_t, L>::Type;
    const auto words = reinterpret_cast<typename Vector<uint32_t, L>::Type>(value);
    const auto rounded = (words + 0x7fff + (words >> 16 & 1)) >> 16;  // to nearest, ties to even
    *reinterpret_cast<Halves*>(to) = __builtin_convertvector(rounded, Halves);
  }
}

// Values as they are computed with; they must outlive this.
template <class T>
class Widened {
 public:
  Widened(const T* values, int64_t count) {
    if constexpr (std::is_same_v<T, Wide<T>>) {
      data_ = values;
    } else {
      copies_.resize(count);
      for (int64_t i = 0; i < count; ++i) copies_[i] = load<T, 1>(values + i)[0];
      data_ = copies_.data();
    }
  }
  Widened(const Widened&) = delete;
  const Wide<T>* data() const { return data_; }

 private:
  const Wide<T>* data_;
  std::vector<Wide<T>> copies_;
};

// Where the vectors of a row of `channels` begin. The last one ends with the row, so it may overlap the one before:
// what lies under both is computed twice, and there is no rest.
template <int L>
struct Lanes {
  explicit Lanes(int64_t channels) : channels(channels), count((channels + L - 1) / L), begin(0), end(count) {}
  // Those [begin, end) of all vectors of a row.
  Lanes(const Lanes& all, int64_t begin, int64_t end)
      : channels(all.channels), count(all.count), begin(begin), end(end) {}
  int64_t offset(int64_t vector) const { return std::min<int64_t>(vector * L, channels - L); }
  // Where channel `c` lies in an array of `count` whole vectors.
  int64_t slot(int64_t c) const {
    const int64_t vector = c / L;
    return vector * L + c - offset(vector);
  }
  const int64_t channels, count, begin, end;
};

// Calls `function.template operator()<L>()` with the widest vector that `channels` fill; only floats have all widths,
// as others are rare where channels are few.
template <class T, class Function>
void with_lanes(int64_t channels, Function&& function) {
  if constexpr (sizeof(Wide<T>) == 4) {
    if (channels >= 16) return function.template operator()<16>();
    if (sizeof(T) == 4 && channels >= 8) return function.template operator()<8>();
  } else {
    if (channels >= 4) return function.template operator()<4>();
  }
  function.template operator()<1>();
}
