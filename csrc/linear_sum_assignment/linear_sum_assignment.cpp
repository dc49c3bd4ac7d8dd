// Shortest augmenting paths after D. F. Crouse, "On implementing 2D rectangular assignment algorithms" (2016), in
// double.
//
// Rows are the smaller side. A row's search keeps its arrays over all columns, not a list of the open ones, so that the
// scan is a straight vector loop. A closed column has potential -inf and distance +inf. So have the columns that pad a
// row to whole vectors.
//
// SciPy's choice among equal distances is kept. Its list of open columns starts in descending order and loses entries
// by swapping in the last one. A free column late in the list goes before an occupied one early in it. `rank` holds
// that order.
#include "linear_sum_assignment/linear_sum_assignment.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/aligned.h"
#include "linear_sum_assignment/lexicographic.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
// One register of doubles, and the floats that widen to it.
#if defined(__AVX512F__)
constexpr int64_t lanes = 8;
#elif defined(__AVX2__)
constexpr int64_t lanes = 4;
#else
constexpr int64_t lanes = 2;
#endif
constexpr int64_t chains = 2;  // independent minima, so that one comparison need not wait for the last
using DoubleVector [[gnu::vector_size(lanes * 8), gnu::may_alias]] = double;
using LongVector [[gnu::vector_size(lanes * 8), gnu::may_alias]] = int64_t;
using FloatVector [[gnu::vector_size(lanes * 4), gnu::may_alias]] = float;

void load(const float* from, DoubleVector& to) {
  to = __builtin_convertvector(*reinterpret_cast<const FloatVector*>(from), DoubleVector);
}
void load(const double* from, DoubleVector& to) { to = *reinterpret_cast<const DoubleVector*>(from); }

// Everything one problem needs, kept from problem to problem, so that a batch allocates once per thread. Cost is float
// or double. A float holds 16- and 32-bit costs exactly, at half the memory traffic.
template <class Cost>
struct Workspace {
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0;                      // columns rounded up to whole vectors
  AlignedVector<Cost> cost;                // (rows, stride), +inf where forbidden
  AlignedVector<double> column_potential;  // (stride,)
  AlignedVector<double> start_rank;        // (stride,) tie order while every column is open, the largest goes first
  AlignedVector<double> open_potential;    // (stride,) column_potential, -inf where closed
  AlignedVector<double> rank;              // (stride,) tie order in the course of a search
  AlignedVector<double> distance;          // (stride,) shortest reduced path so far, +inf where closed
  AlignedVector<int64_t> predecessor;      // (stride,) row before the column on its path
  std::vector<double> row_potential;       // (rows,)
  std::vector<double> closed_distance;     // (columns,) the distance at which a column was closed
  std::vector<int64_t> row_of_column;      // (columns,) -1 while free
  std::vector<int64_t> column_of_row;      // (rows,) -1 where no path was found
  std::vector<int64_t> open;               // SciPy's list of open columns
  std::vector<int64_t> position;           // (columns,) place in that list
  std::vector<int64_t> closed;             // columns in the order of closing

  void resize(int64_t num_rows, int64_t num_columns) {
    rows = num_rows;
    columns = num_columns;
    stride = (columns + lanes * chains - 1) / (lanes * chains) * (lanes * chains);
    cost.assign(rows * stride, std::numeric_limits<Cost>::infinity());
    column_potential.assign(stride, 0.0);
    start_rank.assign(stride, -1.0);
    for (int64_t j = 0; j < columns; ++j) start_rank[j] = free_rank(columns - 1 - j);
    for (auto* array : {&open_potential, &rank, &distance}) array->resize(stride);
    predecessor.resize(stride);
    row_potential.assign(rows, 0.0);
    closed_distance.resize(columns);
    column_of_row.assign(rows, -1);
    row_of_column.assign(columns, -1);
    open.resize(columns);
    position.resize(columns);
    closed.clear();
  }

  // Free columns go before occupied ones. Of the free ones, the last of SciPy's list goes first; of the occupied, the
  // first.
  double free_rank(int64_t place) const { return static_cast<double>(columns + place); }
  double occupied_rank(int64_t place) const { return static_cast<double>(columns - 1 - place); }
};

// Copies one problem in, as (targets, queries) or, with fewer queries than targets, (queries, targets).
template <class T, class Cost>
void load_cost(const T* cost, int64_t num_queries, int64_t max_targets, int64_t num_targets, bool transpose,
               Workspace<Cost>& w) {
  const int64_t query_step = transpose ? 1 : w.stride;
  const int64_t target_step = transpose ? w.stride : 1;
  for (int64_t q = 0; q < num_queries; ++q) {
    for (int64_t t = 0; t < num_targets; ++t) {
      Cost c;
      if constexpr (std::is_same_v<T, double>) {
        c = cost[q * max_targets + t];
      } else {
        c = to_float(cost[q * max_targets + t]);
      }
      if (c - c == Cost(0)) w.cost[q * query_step + t * target_step] = c;  // else it stays forbidden
    }
  }
}

struct Nearest {
  double distance;
  double rank;
};

// One row's scan of all columns: shortens distances and finds the nearest column. The first scan of a search starts
// from a row of potential zero at distance zero, with every column open.
template <bool first, class Cost>
Nearest scan(Workspace<Cost>& w, int64_t row, double base) {
  const Cost* cost = w.cost.data() + row * w.stride;
  const double* potential = first ? w.column_potential.data() : w.open_potential.data();
  const double* rank = first ? w.start_rank.data() : w.rank.data();
  double* distance = w.distance.data();
  int64_t* predecessor = w.predecessor.data();
  const double row_potential = w.row_potential[row];
  const LongVector this_row = LongVector{} + row;
  DoubleVector best[chains], best_rank[chains];
  for (int64_t k = 0; k < chains; ++k) {
    best[k] = DoubleVector{} + infinity;
    best_rank[k] = DoubleVector{} - 1.0;
  }
  for (int64_t start = 0; start < w.stride; start += lanes * chains) {
    for (int64_t k = 0; k < chains; ++k) {
      const int64_t j = start + k * lanes;
      const DoubleVector v = *reinterpret_cast<const DoubleVector*>(potential + j);
      DoubleVector& kept = *reinterpret_cast<DoubleVector*>(distance + j);
      DoubleVector d;
      load(cost + j, d);
      if constexpr (first) {
        d = d - v;
      } else {
        d = base + d - row_potential - v;
        LongVector& before = *reinterpret_cast<LongVector*>(predecessor + j);
        before = d < kept ? this_row : before;
        d = d < kept ? d : kept;
      }
      kept = d;
      const DoubleVector r = *reinterpret_cast<const DoubleVector*>(rank + j);
      const DoubleVector rank_to_beat = d == best[k] ? best_rank[k] : DoubleVector{} + infinity;
      best_rank[k] = d < best[k] ? r : (r > rank_to_beat ? r : best_rank[k]);
      best[k] = d < best[k] ? d : best[k];
    }
  }
  Nearest nearest = {infinity, -1.0};
  for (int64_t k = 0; k < chains; ++k) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const double d = best[k][lane], r = best_rank[k][lane];
      if (d < nearest.distance || (d == nearest.distance && r > nearest.rank)) nearest = {d, r};
    }
  }
  return nearest;
}

// Writes down, before the second scan of a search, what the first one could leave implicit.
template <class Cost>
void open_all(Workspace<Cost>& w, int64_t row) {
  w.open_potential = w.column_potential;
  w.rank = w.start_rank;
  std::fill(w.predecessor.begin(), w.predecessor.end(), row);
  for (int64_t j = 0; j < w.columns; ++j) w.open[j] = w.position[j] = w.columns - 1 - j;
}

template <class Cost>
void close_column(Workspace<Cost>& w, int64_t column, double distance) {
  const int64_t moved = w.open[w.columns - 1 - static_cast<int64_t>(w.closed.size())];
  const int64_t place = w.position[column];
  w.open[place] = moved;
  w.position[moved] = place;
  w.rank[moved] = w.row_of_column[moved] < 0 ? w.free_rank(place) : w.occupied_rank(place);
  w.closed.push_back(column);
  w.closed_distance[column] = distance;
  w.distance[column] = infinity;
  w.open_potential[column] = -infinity;
}

// Finds the shortest path from a row to a free column and augments along it. Returns false if there is none.
template <class Cost>
bool augment(Workspace<Cost>& w, int64_t row) {
  w.closed.clear();
  Nearest nearest = scan<true>(w, row, 0.0);
  int64_t column = 0;
  for (;;) {
    if (nearest.distance == infinity) return false;
    const auto key = static_cast<int64_t>(nearest.rank);
    const bool free = key >= w.columns;
    const int64_t place = free ? key - w.columns : w.columns - 1 - key;
    column = w.closed.empty() ? w.columns - 1 - place : w.open[place];
    if (free) break;
    if (w.closed.empty()) open_all(w, row);
    close_column(w, column, nearest.distance);
    nearest = scan<false>(w, w.row_of_column[column], nearest.distance);
  }
  w.row_potential[row] += nearest.distance;
  for (const int64_t j : w.closed) {
    const double slack = nearest.distance - w.closed_distance[j];
    w.row_potential[w.row_of_column[j]] += slack;
    w.column_potential[j] -= slack;
  }
  w.start_rank[column] = w.occupied_rank(w.columns - 1 - column);
  if (w.closed.empty()) w.predecessor[column] = row;
  for (int64_t i = -1; i != row;) {
    i = w.predecessor[column];
    w.row_of_column[column] = i;
    std::swap(w.column_of_row[i], column);
  }
  return true;
}

// Pairs what is unmatched on both sides in index order.
template <class Cost>
void match_rest(Workspace<Cost>& w) {
  int64_t column = 0;
  for (int64_t row = 0; row < w.rows; ++row) {
    if (w.column_of_row[row] >= 0) continue;
    while (w.row_of_column[column] >= 0) ++column;
    w.column_of_row[row] = column;
    w.row_of_column[column] = row;
  }
}

template <class T, class Cost>
void solve(const LinearSumAssignmentParams& p, const T* all_costs, int64_t problem, Workspace<Cost>& w) {
  const int64_t num_targets = p.num_targets[problem];
  const bool transpose = num_targets < p.num_queries;  // as SciPy, given (queries, targets)
  w.resize(transpose ? num_targets : p.num_queries, transpose ? p.num_queries : num_targets);
  const T* cost = all_costs + problem * p.num_queries * p.max_targets;
  load_cost(cost, p.num_queries, p.max_targets, num_targets, transpose, w);
  bool complete = true;
  for (int64_t row = 0; row < w.rows && complete; ++row) complete = augment(w, row);
  if (!complete) {
    solve_lexicographic(w.cost.data(), w.rows, w.columns, w.stride, w.column_of_row, w.row_of_column);
    match_rest(w);
  }

  int64_t* query_of_target = p.query_of_target + problem * p.max_targets;
  const std::vector<int64_t>& answer = transpose ? w.column_of_row : w.row_of_column;
  for (int64_t t = 0; t < p.max_targets; ++t) query_of_target[t] = t < num_targets ? answer[t] : -1;
}

template <class Cost, class T>
void solve_range(const LinearSumAssignmentParams& params, int64_t begin, int64_t end) {
  Workspace<Cost> workspace;
  const auto* cost = static_cast<const T*>(params.cost);
  for (int64_t problem = begin; problem < end; ++problem) solve(params, cost, problem, workspace);
}

}  // namespace

void linear_sum_assignment(const LinearSumAssignmentParams& params, int64_t begin, int64_t end) {
  if (params.cost_dtype == DType::float64) return solve_range<double, double>(params, begin, end);
  for_float_type(params.cost_dtype, [&](auto type) { solve_range<float, decltype(type)>(params, begin, end); });
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
