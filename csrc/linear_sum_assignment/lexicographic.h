// Assignment where forbidden pairs leave some row without a column: as many allowed pairs as possible, then the least
// cost.
//
// A path has two lengths: how many pairs are given up, and the cost. They are compared in this order,
// lexicographically. Every row also gets a column of its own, with the length (1, 0), so that each row is matched.
// Shortest augmenting paths stay exact, since they need only an ordered group. One large number in place of the first
// length would swallow digits of the second.
#pragma once

#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "common/cpu_dispatch.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {

struct Lexicographic {
  int64_t given_up = 0;
  double cost = 0.0;

  friend Lexicographic operator+(Lexicographic a, Lexicographic b) {
    return {a.given_up + b.given_up, a.cost + b.cost};
  }
  friend Lexicographic operator-(Lexicographic a, Lexicographic b) {
    return {a.given_up - b.given_up, a.cost - b.cost};
  }
  friend bool operator<(Lexicographic a, Lexicographic b) {
    return a.given_up != b.given_up ? a.given_up < b.given_up : a.cost < b.cost;
  }
};

// Solves one problem. `cost` is (rows, columns) with rows `stride` apart, +inf where forbidden, rows <= columns. Writes
// both directions, -1 for the unmatched.
template <class Cost>
void solve_lexicographic(const Cost* cost, int64_t rows, int64_t columns, int64_t stride,
                         std::vector<int64_t>& column_of_row, std::vector<int64_t>& row_of_column) {
  const int64_t all_columns = columns + rows;
  constexpr Lexicographic far = {std::numeric_limits<int64_t>::max(), 0.0};
  const auto entry = [&](int64_t i, int64_t j) -> Lexicographic {
    if (j >= columns) return j - columns == i ? Lexicographic{1, 0.0} : far;
    const double c = cost[i * stride + j];
    return c < std::numeric_limits<double>::infinity() ? Lexicographic{0, c} : far;
  };
  std::vector<Lexicographic> row_potential(rows), column_potential(all_columns), distance(all_columns);
  std::vector<int64_t> predecessor(all_columns), owner(all_columns, -1);
  std::vector<char> closed(all_columns);
  column_of_row.assign(rows, -1);

  for (int64_t start = 0; start < rows; ++start) {
    distance.assign(all_columns, far);
    closed.assign(all_columns, 0);
    Lexicographic base;
    int64_t row = start, column = -1;
    for (;;) {
      column = -1;
      for (int64_t j = 0; j < all_columns; ++j) {
        if (closed[j]) continue;
        const Lexicographic c = entry(row, j);
        if (c.given_up != far.given_up) {
          const Lexicographic d = base + c - row_potential[row] - column_potential[j];
          if (d < distance[j]) {
            distance[j] = d;
            predecessor[j] = row;
          }
        }
        if (distance[j].given_up != far.given_up && (column < 0 || distance[j] < distance[column])) column = j;
      }
      base = distance[column];  // a row's own column is always reachable
      if (owner[column] < 0) break;
      closed[column] = 1;
      row = owner[column];
    }
    row_potential[start] = row_potential[start] + base;
    for (int64_t j = 0; j < all_columns; ++j) {
      if (!closed[j]) continue;
      const Lexicographic slack = base - distance[j];
      row_potential[owner[j]] = row_potential[owner[j]] + slack;
      column_potential[j] = column_potential[j] - slack;
    }
    for (int64_t i = -1; i != start;) {
      i = predecessor[column];
      owner[column] = i;
      std::swap(column_of_row[i], column);
    }
  }
  row_of_column.assign(owner.begin(), owner.begin() + columns);
  for (int64_t& column : column_of_row) column = column < columns ? column : -1;
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
