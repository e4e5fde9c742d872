// The products of products.h for brain floats, in the tile registers of processors that have them (Intel AMX): a tile
// is 16 rows of 32 brain floats or of 16 floats, and one instruction adds the product of two tiles to a third.
#pragma once

#ifdef __AMX_BF16__

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "products.h"

// Asks Linux for the tile registers, for all threads of this process; whether it gives them.
inline bool allow_tiles() {
  constexpr int request_permission = 0x1023, tile_data = 18;
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

// While it lives, this thread has tile registers, all of one shape.
class TileRegisters {
 public:
  TileRegisters() {
    struct {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } shapes;
    memory_is_read(&shapes);
    _tile_loadconfig(&shapes);
  }
  TileRegisters(const TileRegisters&) = delete;
  ~TileRegisters() { _tile_release(); }

  // Compilers do not all see that tile instructions read memory, and would leave out or delay what is written for them.
  static void memory_is_read(const void* memory) { asm volatile("" : : "r"(memory) : "memory"); }
};

// Where the tiles of 16 along an axis begin. The last one ends with the axis, unless that is shorter than a tile.
inline Lanes<16> tiles_along(int64_t size) { return Lanes<16>(std::max<int64_t>(size, 16)); }

// sums [16 M, 16 N] += or, if `fresh`, = the products of M by N tiles, over `count` blocks of 32 in depth. Block k of
// left tile m lies at left(k, m), its rows `left_row` bytes apart, that of right tile n at right(k, n). The N tiles of
// sums[m] lie one behind the other.
template <int M, int N, bool fresh, class Left, class Right>
inline void multiply_tiles(int64_t count, int64_t left_row, const Left& left, const Right& right,
                           float* const (&sums)[2]) {
  constexpr int64_t row = 64;
  TileRegisters::memory_is_read(sums[0]);
  if constexpr (fresh) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, sums[0], row);
    if constexpr (N == 2) _tile_loadd(1, sums[0] + 256, row);
    if constexpr (M == 2) _tile_loadd(2, sums[1], row);
    if constexpr (M == 2 && N == 2) _tile_loadd(3, sums[1] + 256, row);
  }
  for (int64_t k = 0; k < count; ++k) {
    _tile_loadd(4, left(k, 0), left_row);
    _tile_loadd(6, right(k, 0), row);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (N == 2) {
      _tile_loadd(7, right(k, 1), row);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (M == 2) {
      _tile_loadd(5, left(k, 1), left_row);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (N == 2) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, sums[0], row);
  if constexpr (N == 2) _tile_stored(1, sums[0] + 256, row);
  if constexpr (M == 2) _tile_stored(2, sums[1], row);
  if constexpr (M == 2 && N == 2) _tile_stored(3, sums[1] + 256, row);
}

// Two neighbours in depth lie side by side in the words of a right tile: row r has those 2r and 2r + 1.
using Words = typename Vector<uint32_t, 16>::Type;

template <int L>
class Product<Bfloat16, L> {
 public:
  static constexpr int64_t unit = 32, few_rows = unit;

  Product(xla::ffi::ThreadPool& pool, const Bfloat16* weights, int64_t depth, int64_t width, int64_t row,
          int64_t column, bool = true)
      : depth_(depth), width_(width), blocks_((depth + 31) / 32), tiles_(tiles_along(width)),
        packed_(tiles_.count * blocks_ * 512) {
    const int64_t turns = depth * width < 65536 ? 1 : std::min<int64_t>(tiles_.count, 8);
    parallel_for(pool, turns, [&](int64_t turn) {
      const Part part(turn, turns, tiles_.count);
      for (int64_t tile = part.begin; tile < part.end; ++tile)
        for (int64_t k = 0; k < depth; ++k) {
          // A block that overlaps the one before has zeros for what is there already.
          const int64_t block = k / 32, at = k - start(block), count = std::min<int64_t>(16, width);
          const Bfloat16* from = weights + k * row + tiles_.offset(tile) * column;
          Bfloat16* to = packed_.data() + (tile * blocks_ + block) * 512 + at / 2 * 32 + at % 2;
          for (int64_t c = 0; c < count; ++c) to[2 * c] = from[c * column];
        }
    });
  }

  int64_t groups() const { return (tiles_.count + 1) / 2; }

  template <class Epilogue>
  void operator()(const Bfloat16* inputs, int64_t rows, const Epilogue& epilogue, int64_t only, Bfloat16* outputs,
                  Ahead* = nullptr) const {
    static thread_local std::vector<Bfloat16> padded;
    int64_t row = depth_;
    if (rows < 32 || depth_ < 32) inputs = with_zeros(inputs, rows, padded, row);
    const TileRegisters registers;
    for (int64_t group = only < 0 ? 0 : only; group < (only < 0 ? groups() : only + 1); ++group) {
      const int64_t tile = 2 * group;
      for (int64_t at = 0; at < rows; at += 32) {  // the last rows overlap those before
        const int64_t first = std::max<int64_t>(0, std::min(at, rows - 32)), count = std::min<int64_t>(rows, 32);
        const Bfloat16* from = inputs + first * row;
        if (tile + 1 < tiles_.count)
          block<2>(from, row, tile, count, epilogue, outputs + first * width_);
        else
          block<1>(from, row, tile, count, epilogue, outputs + first * width_);
      }
    }
  }

 private:
  // Where block k of 32 in depth begins: the last one ends with the depth.
  int64_t start(int64_t k) const { return std::max<int64_t>(0, std::min(32 * k, depth_ - 32)); }

  // At least 32 rows of at least 32 values; `row` becomes the distance between them.
  const Bfloat16* with_zeros(const Bfloat16* inputs, int64_t rows, std::vector<Bfloat16>& to, int64_t& row) const {
    row = std::max<int64_t>(depth_, 32);
    to.assign(std::max<int64_t>(rows, 32) * row, {});
    for (int64_t i = 0; i < rows; ++i) std::copy_n(inputs + i * depth_, depth_, to.data() + i * row);
    return to.data();
  }

  // `count` rows of N tiles of outputs.
  template <int N, class Epilogue>
  void block(const Bfloat16* inputs, int64_t row, int64_t tile, int64_t count, const Epilogue& epilogue,
             Bfloat16* outputs) const {
    alignas(64) float sums[2][512];
    multiply_tiles<2, N, true>(
        blocks_, 2 * row, [&](int64_t k, int m) { return inputs + 16 * m * row + start(k); },
        [&](int64_t k, int n) { return packed_.data() + ((tile + n) * blocks_ + k) * 512; }, {sums[0], sums[1]});
    const Lanes<L> lanes(std::min<int64_t>(16, width_));
    for (int n = 0; n < N; ++n)
      for (int64_t v = 0; v < lanes.count; ++v) {
        const int64_t channel = tiles_.offset(tile + n) + lanes.offset(v);
        const auto finished = epilogue.template at<Vec<Bfloat16, L>>(channel);
        for (int64_t m = 0; m < count; ++m) {
          const float* sum = sums[m / 16] + n * 256 + m % 16 * 16 + lanes.offset(v);
          Bfloat16* to = outputs + m * width_ + channel;
          store<Bfloat16, L>(to, finished(load<float, L>(sum), to));
        }
      }
  }

  const int64_t depth_, width_, blocks_;
  const Lanes<16> tiles_;
  std::vector<Bfloat16> packed_;  // [tiles, blocks, 16 pairs in depth, 16 columns, 2]
};

// Turns 16 rows of 16 words into columns.
inline void transpose(uint32_t* words) {
  Words rows[16];
  for (int i = 0; i < 16; ++i) rows[i] = load<uint32_t, 16>(words + 16 * i);
  const auto exchange = [&]<int step>() {
    Words low, high;
    for (int lane = 0; lane < 16; ++lane) {
      low[lane] = lane & step ? 16 + lane - step : lane;
      high[lane] = lane & step ? 16 + lane : lane + step;
    }
    for (int i = 0; i < 16; ++i) {
      if (i & step) continue;
      const __m512i a = (__m512i)rows[i], b = (__m512i)rows[i + step];
      rows[i] = (Words)_mm512_permutex2var_epi32(a, (__m512i)low, b);
      rows[i + step] = (Words)_mm512_permutex2var_epi32(a, (__m512i)high, b);
    }
  };
  exchange.template operator()<1>(), exchange.template operator()<2>();
  exchange.template operator()<4>(), exchange.template operator()<8>();
  for (int i = 0; i < 16; ++i) store<uint32_t, 16>(words + 16 * i, rows[i]);
}

template <int L, int M>
class KernelGradient<Bfloat16, L, M> {
 public:
  static constexpr int64_t block = 192;

  KernelGradient(int64_t parts, int64_t depth, int64_t width)
      : depth_(depth), width_(width), parts_(parts), rows_(tiles_along(depth)), columns_(tiles_along(width)),
        size_(rows_.count * columns_.count * 256), sums_(parts * size_) {}

  int64_t tiles() const { return (rows_.count + 1) / 2; }

  void add(int64_t i, const Bfloat16* inputs, const Bfloat16* gradients, int64_t pixels, int64_t first_tile,
           int64_t last_tile, Ahead* = nullptr) {
    static thread_local std::vector<uint32_t> left, right;  // [tiles, blocks, 16 rows, 16 words]
    const int64_t blocks = (pixels + 31) / 32, begin = 2 * first_tile, end = std::min(2 * last_tile, rows_.count);
    pack(gradients, width_, columns_, 0, columns_.count, pixels, right);
    pack(inputs, depth_, rows_, begin, end, pixels, left);
    for (int64_t at = 0; at < int64_t(left.size()); at += 256) transpose(left.data() + at);
    const TileRegisters registers;
    for (int64_t m = begin; m < end; m += 2)
      for (int64_t n = 0; n < columns_.count; n += 2) {
        float* sum = sums_.data() + i * size_ + (m * columns_.count + n) * 256;
        const auto multiply = [&]<int ms, int ns>() {
          multiply_tiles<ms, ns, false>(
              blocks, 64, [&](int64_t k, int j) { return left.data() + ((m - begin + j) * blocks + k) * 256; },
              [&](int64_t k, int j) { return right.data() + ((n + j) * blocks + k) * 256; },
              {sum, sum + columns_.count * 256});
        };
        const bool two_rows = m + 1 < end, two_columns = n + 1 < columns_.count;
        if (two_rows)
          two_columns ? multiply.template operator()<2, 2>() : multiply.template operator()<2, 1>();
        else
          two_columns ? multiply.template operator()<1, 2>() : multiply.template operator()<1, 1>();
      }
  }

  void finish(xla::ffi::ThreadPool& pool, Bfloat16* outputs) const {
    const int64_t turns = std::min<int64_t>(depth_, 8);
    const Lanes<L> lanes(std::min<int64_t>(16, width_));
    parallel_for(pool, turns, [&](int64_t turn) {
      const Part part(turn, turns, depth_);
      for (int64_t k = part.begin; k < part.end; ++k)
        for (int64_t n = 0; n < columns_.count; ++n)
          for (int64_t v = 0; v < lanes.count; ++v) {
            const int64_t slot = rows_.slot(k);
            const float* sum = sums_.data() + (slot / 16 * columns_.count + n) * 256 + slot % 16 * 16 + lanes.offset(v);
            Vec<float, L> total = {};
            for (int64_t i = 0; i < parts_; ++i) total += load<float, L>(sum + i * size_);
            store<Bfloat16, L>(outputs + k * width_ + columns_.offset(n) + lanes.offset(v), total);
          }
    });
  }

 private:
  // Words of two pixels each, for tiles [begin, end) of the channels; zeros where there are no more pixels.
  static void pack(const Bfloat16* values, int64_t channels, const Lanes<16>& tiles, int64_t begin, int64_t end,
                   int64_t pixels, std::vector<uint32_t>& to) {
    const auto halves = [&](int64_t pixel, int64_t channel) {
      Words result = {};
      if (pixel < pixels && channels >= 16)
        result = reinterpret_cast<Words>(load<Bfloat16, 16>(values + pixel * channels + channel));
      else if (pixel < pixels)
        for (int64_t c = 0; c < channels; ++c) result[c] = uint32_t(values[pixel * channels + c].bits) << 16;
      return result;
    };
    const int64_t pairs = (pixels + 31) / 32 * 16;
    to.resize((end - begin) * pairs * 16);
    uint32_t* words = to.data();
    for (int64_t tile = begin; tile < end; ++tile)
      for (int64_t pair = 0; pair < pairs; ++pair, words += 16) {
        const int64_t channel = tiles.offset(tile);
        store<uint32_t, 16>(words, halves(2 * pair, channel) >> 16 | halves(2 * pair + 1, channel));
      }
  }

  const int64_t depth_, width_, parts_;
  const Lanes<16> rows_, columns_;
  const int64_t size_;
  std::vector<float> sums_;  // [parts, tiles of rows, tiles of columns, 16, 16]
};

#endif
