// Products of matrices in vector registers: of what pixels see, a tall one, with a small one of weights, and of two
// tall ones.
#pragma once

#include "parallel.h"
#include "vectors.h"

// Rows that a tile of so many vectors holds in registers: multiples of 7, as the pixels of all layers are at
// 224 px. 7 times 4 vectors with their weights are one more than 32 registers, which costs less than a smaller tile.
constexpr int64_t tile_unit = 7;
constexpr int rows_of_tile(int vectors) { return vectors == 2 ? 2 * tile_unit : tile_unit; }

// Calls `function.template operator()<NV>(first vector)` for groups of at most 4 of `count` vectors, of nearly one
// size.
template <class Function>
void for_groups(int64_t count, Function&& function) {
  const int64_t groups = (count + 3) / 4;
  for (int64_t i = 0; i < groups; ++i) {
    const Part part(i, groups, count);
    switch (part.end - part.begin) {
      case 1: function.template operator()<1>(part.begin); break;
      case 2: function.template operator()<2>(part.begin); break;
      case 3: function.template operator()<3>(part.begin); break;
      default: function.template operator()<4>(part.begin);
    }
  }
}

// Weights as a tile reads them: vector v of row k lies at weights[k * row + columns[v]].
template <class T>
struct Weights {
  const T* weights;
  int64_t row;
  const int64_t* columns;
};

// outputs[M, NV vectors] = inputs[M, depth] weights[depth, NV vectors], at channels[NV] of each row of outputs. Weights
// that are read for the `first` time and do not lie one behind the other are asked for in advance, also those of the
// columns behind these: no processor would.
template <class T, int L, int NV, int M, bool first, class Epilogue>
inline void forward_tile(const T* inputs, int64_t depth, const Weights<T>& from, const int64_t* channels,
                         const Epilogue& epilogue, T* outputs, int64_t width, Ahead* ahead) {
  Vec<T, L> sums[M][NV] = {};
  const Ahead::Lines lines = Ahead::take(ahead, depth, inputs);
  for (int64_t k = 0; k < depth; ++k) {
    Vec<T, L> weight[NV];
    const T* row = from.weights + k * from.row;
    lines.ask(k);
    if constexpr (first) {
      constexpr int64_t rows = 32;
      const T* soon = k + rows < depth ? row + rows * from.row : from.weights + (k + rows - depth) * from.row + NV * L;
      for (int v = 0; v < NV; ++v) __builtin_prefetch(soon + from.columns[v], 0, 2);
      __builtin_prefetch(soon + from.columns[NV - 1] + L - 1, 0, 2);  // rows may begin anywhere in a line
    }
    for (int v = 0; v < NV; ++v) weight[v] = load<T, L>(row + from.columns[v]);
    for (int m = 0; m < M; ++m)
      for (int v = 0; v < NV; ++v) sums[m][v] += weight[v] * inputs[m * depth + k];
  }
#pragma GCC unroll 4  // else compilers write all sums to memory for these loops, which costs short products most
  for (int v = 0; v < NV; ++v) {
    const int64_t channel = channels[v];
    const auto finished = epilogue.template at<Vec<T, L>>(channel);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      T* to = outputs + m * width + channel;
      store<T, L>(to, finished(sums[m][v], to));
    }
  }
}

// Weights [depth, width], ready for products with rows of `depth` values.
template <class T, int L>
class Product {
 public:
  static constexpr int64_t unit = tile_unit;     // of rows, that parts should be whole multiples of
  static constexpr int64_t few_rows = 3 * unit;  // that are worth a turn of their own

  // Weight (k, c) lies at weights[k * row + c * column]. Where they are read for few rows only, they are not worth to
  // `pack` if they lie as [depth, width]; they must outlive this then.
  Product(xla::ffi::ThreadPool& pool, const T* weights, int64_t depth, int64_t width, int64_t row, int64_t column,
          bool pack = true)
      : depth_(depth), lanes_(width), pack_(pack || column != 1 || row != width), weights_(weights) {
    if (pack_) packed_ = packed(pool, row, column);
  }

  // Their columns are divided into so many groups.
  int64_t groups() const { return (lanes_.count + 3) / 4; }

  // outputs [rows, width] = inputs [rows, depth] weights, of group `only` or, if that is negative, of all.
  template <class Epilogue>
  void operator()(const T* inputs, int64_t rows, const Epilogue& epilogue, int64_t only, T* outputs,
                  Ahead* ahead = nullptr) const {
    multiply(inputs, rows, epilogue, only, outputs, lanes_.channels, ahead);
  }

  // The same, where rows of outputs lie `pitch` values apart.
  template <class Epilogue>
  void multiply(const T* inputs, int64_t rows, const Epilogue& epilogue, int64_t only, T* outputs, int64_t pitch,
                Ahead* ahead = nullptr) const {
    int64_t group = 0;
    for_groups(lanes_.count, [&]<int NV>(int64_t first) {
      if (only >= 0 && group++ != only) return;
      int64_t channels[NV], columns[NV];
      for (int v = 0; v < NV; ++v) channels[v] = lanes_.offset(first + v);
      for (int v = 0; v < NV; ++v) columns[v] = pack_ ? depth_ * first * L + v * L : channels[v];
      const Weights<T> from = pack_ ? Weights<T>{packed_.data(), NV * L, columns}
                                    : Weights<T>{weights_, lanes_.channels, columns};
      constexpr int M = rows_of_tile(NV);
      const auto tile = [&]<int count, bool fetch>(int64_t row) {
        forward_tile<T, L, NV, count, fetch>(inputs + row * depth_, depth_, from, channels, epilogue,
                                             outputs + row * pitch, pitch, ahead);
      };
      int64_t row = 0;
      if (rows < M) {
        if (!pack_ && rows > 0) tile.template operator()<1, true>(row++);
        for (; row < rows; ++row) tile.template operator()<1, false>(row);
      } else {
        if (!pack_) tile.template operator()<M, true>(row), row += M;
        for (; row < rows; row += M)  // the last tile overlaps the one before
          tile.template operator()<M, false>(std::min(row, rows - M));
      }
    });
  }

 private:
  // As the tiles read them: group by group of at most 4 vectors, each [depth, vectors, L].
  std::vector<T> packed(xla::ffi::ThreadPool& pool, int64_t row, int64_t column) const {
    std::vector<T> result(depth_ * lanes_.count * L);
    const int64_t turns = depth_ * lanes_.channels < 65536 ? 1 : 8;
    parallel_for(pool, turns, [&](int64_t turn) {
      const Part part(turn, turns, depth_);
      for_groups(lanes_.count, [&]<int NV>(int64_t first) {
        T* to = result.data() + (depth_ * first + part.begin * NV) * L;
        for (int64_t k = part.begin; k < part.end; ++k)
          for (int v = 0; v < NV; ++v, to += L) {
            const T* from = weights_ + k * row + lanes_.offset(first + v) * column;
            for (int lane = 0; lane < L; ++lane) to[lane] = from[lane * column];
          }
      });
    });
    return result;
  }

  const int64_t depth_;
  const Lanes<L> lanes_;
  const bool pack_;
  const T* weights_;
  std::vector<T> packed_;
};

// Calls `function.template operator()<M>()` with the rows of the tiles that sums of `depth` rows are computed by.
template <class Function>
void with_rows_of_sums(int64_t depth, Function&& function) {
  constexpr int rows = 6;
  depth < rows ? function.template operator()<1>() : function.template operator()<rows>();
}

// sums[M, NV vectors] += inputs[pixels, M]^T gradients[pixels, NV vectors].
template <class T, int L, int NV, int M>
inline void kernel_tile(const T* inputs, int64_t depth, const T* const* gradients, int64_t width, int64_t pixels,
                        T* sums, int64_t stride, Ahead* ahead) {
  Vec<T, L> sum[M][NV];
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < NV; ++v) sum[m][v] = load<T, L>(sums + m * stride + v * L);
  const Ahead::Lines lines = Ahead::take(ahead, pixels, inputs);
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    Vec<T, L> gradient[NV];
    lines.ask(pixel);
    for (int v = 0; v < NV; ++v) gradient[v] = load<T, L>(gradients[v] + pixel * width);
    for (int m = 0; m < M; ++m)
      for (int v = 0; v < NV; ++v) sum[m][v] += gradient[v] * inputs[pixel * depth + m];
  }
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < NV; ++v) store<T, L>(sums + m * stride + v * L, sum[m][v]);
}

// A sum of products inputs^T gradients over many pixels: [depth, width], as some parts that are added in the end.
template <class T, int L, int M>
class KernelGradient {
 public:
  static constexpr int64_t block = 14 * tile_unit;  // pixels that are worth to be added at a time

  KernelGradient(int64_t parts, int64_t depth, int64_t width)
      : lanes_(width), rows_(depth), parts_(parts), stride_(lanes_.count * L), size_(rows_.count * M * stride_),
        sums_(parts * size_) {}

  int64_t tiles() const { return rows_.count; }

  // Adds inputs [pixels, depth]^T gradients [pixels, width] to part `i`, for some tiles of M rows.
  void add(int64_t i, const T* inputs, const T* gradients, int64_t pixels, int64_t first_tile, int64_t last_tile,
           Ahead* ahead = nullptr) {
    for_groups(lanes_.count, [&]<int NV>(int64_t first) {
      const T* columns[NV];
      for (int v = 0; v < NV; ++v) columns[v] = gradients + lanes_.offset(first + v);
      for (int64_t tile = first_tile; tile < last_tile; ++tile)
        kernel_tile<T, L, NV, M>(inputs + rows_.offset(tile), rows_.channels, columns, lanes_.channels, pixels,
                                 sums_.data() + i * size_ + tile * M * stride_ + first * L, stride_, ahead);
    });
  }

  // To outputs [depth, width].
  void finish(xla::ffi::ThreadPool& pool, T* outputs) const { finish(pool, outputs, lanes_.channels); }

  // The same, where rows of outputs lie `pitch` values apart.
  void finish(xla::ffi::ThreadPool& pool, T* outputs, int64_t pitch) const {
    const int64_t depth = rows_.channels, turns = std::min<int64_t>(depth, 8);
    parallel_for(pool, turns, [&](int64_t turn) {
      const Part part(turn, turns, depth);
      for (int64_t k = part.begin; k < part.end; ++k)
        for (int64_t v = 0; v < lanes_.count; ++v) {
          Vec<T, L> total = {};
          for (int64_t i = 0; i < parts_; ++i)
            total += load<T, L>(sums_.data() + i * size_ + rows_.slot(k) * stride_ + v * L);
          store<T, L>(outputs + k * pitch + lanes_.offset(v), total);
        }
    });
  }

 private:
  const Lanes<L> lanes_;
  const Lanes<M> rows_;
  const int64_t parts_, stride_, size_;
  std::vector<T> sums_;  // [parts, tiles, M, stride]
};
