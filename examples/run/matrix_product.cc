// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "matrix_product.h"

#include <cblas.h>
#include <sys/mman.h>

#include <algorithm>
#include <vector>

namespace hipattn_run {
namespace {

// A run of output columns that one thread computes at a time.
struct Tile {
  const Product* product;
  size_t begin;
  size_t end;
};

// Tiles of at most `tile_rows`, equal within a product to one row.
std::vector<Tile> CutTiles(std::span<const Product> products, size_t tile_rows) {
  std::vector<Tile> tiles;
  for (const Product& product : products) {
    const size_t rows = product.weight->rows;
    const size_t count = (rows + tile_rows - 1) / tile_rows;
    for (size_t i = 0; i < count; ++i) {
      tiles.push_back({&product, rows * i / count, rows * (i + 1) / count});
    }
  }
  return tiles;
}

size_t TotalRows(std::span<const Product> products) {
  size_t rows = 0;
  for (const Product& product : products) {
    rows += product.weight->rows;
  }
  return rows;
}

void MultiplyToken(std::span<const Product> products, const float* x, Workers& workers) {
  // Several tiles per thread, each long enough (some 10 us) to be worth handing out.
  constexpr size_t kMinRows = 64;
  const size_t tile_rows = std::max(kMinRows, TotalRows(products) / (4 * workers.num_threads()));
  const std::vector<Tile> tiles = CutTiles(products, tile_rows);
  Activation activation;
  QuantizeActivation({x, products[0].weight->columns}, &activation);
  workers.ForEach(tiles.size(), [&](size_t i) {
    const Tile& tile = tiles[i];
    MultiplyRows(
        tile.product->weight->Rows(tile.begin, tile.end), activation, tile.product->y + tile.begin);
  });
}

void MultiplyChunk(std::span<const Product> products,
                   const float* x,
                   size_t tokens,
                   Workers& workers) {
  // BLAS repacks the input for every tile, so tiles are wide; an expanded tile should stay in the
  // second-level cache's reach.
  constexpr size_t kMaxRows = 384;
  const size_t per_thread =
      (TotalRows(products) + workers.num_threads() - 1) / workers.num_threads();
  const std::vector<Tile> tiles = CutTiles(products, std::min(kMaxRows, per_thread));
  workers.ForEach(tiles.size(), [&](size_t i) {
    const Tile& tile = tiles[i];
    const Weight& weight = *tile.product->weight;
    thread_local std::vector<float> expanded;
    expanded.resize((tile.end - tile.begin) * weight.columns);
    DequantizeRows(weight.Rows(tile.begin, tile.end), expanded.data());
    const auto blas_int = [](size_t value) { return static_cast<int>(value); };
    cblas_sgemm(CblasRowMajor,
                CblasNoTrans,
                CblasTrans,
                blas_int(tokens),
                blas_int(tile.end - tile.begin),
                blas_int(weight.columns),
                1.0F,
                x,
                blas_int(weight.columns),
                expanded.data(),
                blas_int(weight.columns),
                0.0F,
                tile.product->y + tile.begin,
                blas_int(weight.rows));
  });
}

}  // namespace

void UseSingleThreadedBlas() {
  openblas_set_num_threads(1);
}

Status CheckMemoryForBlas(size_t num_threads) {
  constexpr size_t kBytesPerThread = size_t{160} << 20;  // OpenBLAS: 128 MiB, and a heap's share
  const size_t bytes = num_threads * kBytesPerThread;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return Status::Error("the system refused ",
                         bytes >> 20,
                         " MiB of memory for matrix products in ",
                         num_threads,
                         " threads; fewer --threads need less");
  }
  ::munmap(memory, bytes);
  return {};
}

void MultiplyAll(std::span<const Product> products,
                 const float* x,
                 size_t tokens,
                 Workers& workers) {
  if (tokens == 1) {
    MultiplyToken(products, x, workers);
  } else {
    MultiplyChunk(products, x, tokens, workers);
  }
}

}  // namespace hipattn_run
