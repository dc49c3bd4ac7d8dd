// Shortest augmenting paths after D. F. Crouse, "On implementing 2D rectangular assignment algorithms" (2016), in
// double.
//
// Rows are the smaller side. A row's search keeps one array over all columns instead of a list of the open ones, so
// that the scan vectorises: a closed column has potential -inf and distance +inf. SciPy's choice among equal distances
// is kept: its list of open columns starts in descending order and loses entries by swapping in the last one; a free
// column late in the list goes before an occupied one early in it. `rank` holds that order.
#include "linear_sum_assignment/linear_sum_assignment.h"

#include <limits>
#include <utility>
#include <vector>

#include "linear_sum_assignment/lexicographic.h"

namespace maskformer_ext::MASKFORMER_EXT_VARIANT {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// Everything one problem needs; kept from problem to problem, so that a batch allocates once a thread.
struct Workspace {
  std::vector<double> cost;              // (rows, columns), +inf where forbidden
  std::vector<double> row_potential;     // (rows,)
  std::vector<double> column_potential;  // (columns,)
  std::vector<double> open_potential;    // (columns,) column_potential, -inf where closed
  std::vector<double> distance;          // (columns,) shortest reduced path so far, +inf where closed
  std::vector<double> closed_distance;   // (columns,) the distance at which a column was closed
  std::vector<double> rank;              // (columns,) tie order, the largest goes first
  std::vector<int64_t> predecessor;      // (columns,) row before the column on its path
  std::vector<int64_t> row_of_column;    // (columns,) -1 while free
  std::vector<int64_t> column_of_row;    // (rows,) -1 where no path was found
  std::vector<int64_t> open;             // SciPy's list of open columns
  std::vector<int64_t> position;         // (columns,) place in that list
  std::vector<int64_t> closed;           // columns in the order of closing

  void resize(int64_t rows, int64_t columns) {
    cost.resize(rows * columns);
    row_potential.assign(rows, 0.0);
    column_of_row.assign(rows, -1);
    column_potential.assign(columns, 0.0);
    row_of_column.assign(columns, -1);
    for (auto* array : {&open_potential, &distance, &closed_distance, &rank}) array->resize(columns);
    for (auto* array : {&predecessor, &open, &position}) array->resize(columns);
    closed.reserve(columns);
  }
};

double to_double(double x) { return x; }
template <class T>
double to_double(T x) {
  return static_cast<double>(to_float(x));
}

// Copies one problem in, as (targets, queries) or, with fewer queries than targets, (queries, targets).
template <class T>
void load_cost(const T* cost, int64_t num_queries, int64_t stride, int64_t num_targets, bool transpose, double* out) {
  for (int64_t q = 0; q < num_queries; ++q) {
    for (int64_t t = 0; t < num_targets; ++t) {
      const double c = to_double(cost[q * stride + t]);
      const double value = c - c == 0.0 ? c : infinity;  // finite, or forbidden
      out[transpose ? t * num_queries + q : q * num_targets + t] = value;
    }
  }
}

// The smallest distance, and the first column of that distance in SciPy's order.
int64_t nearest_column(const Workspace& w, int64_t columns, double lowest) {
  const double* distance = w.distance.data();
  const double* rank = w.rank.data();
  double best = -1.0;
#pragma omp simd reduction(max : best)
  for (int64_t j = 0; j < columns; ++j) {
    const double candidate = distance[j] == lowest ? rank[j] : -1.0;
    best = candidate > best ? candidate : best;
  }
  const auto key = static_cast<int64_t>(best);
  return w.open[key >= columns ? key - columns : columns - 1 - key];
}

double rank_of(bool free, int64_t position, int64_t columns) {
  return static_cast<double>(free ? columns + position : columns - 1 - position);
}

// The first scan of a row: every column is open and the row's potential is zero. Returns the smallest distance.
double start_search(Workspace& w, int64_t row, int64_t columns) {
  const double* cost = w.cost.data() + row * columns;
  const double* potential = w.column_potential.data();
  double* distance = w.distance.data();
  double lowest = infinity;
#pragma omp simd reduction(min : lowest)
  for (int64_t j = 0; j < columns; ++j) {
    const double d = cost[j] - potential[j];
    distance[j] = d;
    lowest = d < lowest ? d : lowest;
  }
  const int64_t* row_of_column = w.row_of_column.data();
  double* rank = w.rank.data();
  for (int64_t j = 0; j < columns; ++j) {
    const int64_t position = columns - 1 - j;
    w.open[position] = j;
    w.position[j] = position;
    w.predecessor[j] = row;
    rank[j] = rank_of(row_of_column[j] < 0, position, columns);
  }
  return lowest;
}

// A further scan, from a row reached over its column at distance `base`. Returns the smallest distance.
double continue_search(Workspace& w, int64_t row, int64_t columns, double base) {
  const double* cost = w.cost.data() + row * columns;
  const double* potential = w.open_potential.data();
  double* distance = w.distance.data();
  int64_t* predecessor = w.predecessor.data();
  const double row_potential = w.row_potential[row];
  double lowest = infinity;
#pragma omp simd reduction(min : lowest)
  for (int64_t j = 0; j < columns; ++j) {
    const double d = base + cost[j] - row_potential - potential[j];
    const bool shorter = d < distance[j];
    const double kept = shorter ? d : distance[j];
    distance[j] = kept;
    predecessor[j] = shorter ? row : predecessor[j];
    lowest = kept < lowest ? kept : lowest;
  }
  return lowest;
}

void close_column(Workspace& w, int64_t column, int64_t num_open, int64_t columns) {
  w.closed.push_back(column);
  w.closed_distance[column] = w.distance[column];
  w.distance[column] = infinity;
  w.open_potential[column] = -infinity;
  const int64_t moved = w.open[num_open - 1];
  const int64_t position = w.position[column];
  w.open[position] = moved;
  w.position[moved] = position;
  w.rank[moved] = rank_of(w.row_of_column[moved] < 0, position, columns);
}

// Finds the shortest path from a row to a free column and augments along it; false if there is none.
bool augment(Workspace& w, int64_t row, int64_t columns) {
  double lowest = start_search(w, row, columns);
  w.closed.clear();
  int64_t num_open = columns;
  int64_t column = 0;
  for (;;) {
    if (lowest == infinity) return false;
    column = nearest_column(w, columns, lowest);
    const int64_t next_row = w.row_of_column[column];
    if (next_row < 0) break;
    if (num_open == columns) w.open_potential = w.column_potential;
    close_column(w, column, num_open--, columns);
    lowest = continue_search(w, next_row, columns, lowest);
  }
  w.row_potential[row] += lowest;
  for (const int64_t j : w.closed) {
    const double slack = lowest - w.closed_distance[j];
    w.row_potential[w.row_of_column[j]] += slack;
    w.column_potential[j] -= slack;
  }
  for (int64_t i = -1; i != row;) {
    i = w.predecessor[column];
    w.row_of_column[column] = i;
    std::swap(w.column_of_row[i], column);
  }
  return true;
}

// Pairs what is unmatched on both sides in index order.
void match_rest(Workspace& w, int64_t rows, int64_t columns) {
  int64_t column = 0;
  for (int64_t row = 0; row < rows; ++row) {
    if (w.column_of_row[row] >= 0) continue;
    while (column < columns && w.row_of_column[column] >= 0) ++column;
    w.column_of_row[row] = column;
    w.row_of_column[column] = row;
  }
}

template <class T>
void solve(const LinearSumAssignmentParams& p, const T* all_costs, int64_t problem, Workspace& w) {
  const int64_t num_targets = p.num_targets[problem];
  const bool transpose = num_targets < p.num_queries;  // as SciPy, given (queries, targets)
  const int64_t rows = transpose ? num_targets : p.num_queries;
  const int64_t columns = transpose ? p.num_queries : num_targets;
  w.resize(rows, columns);
  const T* cost = all_costs + problem * p.num_queries * p.max_targets;
  load_cost(cost, p.num_queries, p.max_targets, num_targets, transpose, w.cost.data());
  bool complete = true;
  for (int64_t row = 0; row < rows && complete; ++row) complete = augment(w, row, columns);
  if (!complete) {
    solve_lexicographic(w.cost.data(), rows, columns, w.column_of_row, w.row_of_column);
    match_rest(w, rows, columns);
  }
  if (p.forced != nullptr) p.forced[problem] = !complete;

  int64_t* query_of_target = p.query_of_target + problem * p.max_targets;
  const std::vector<int64_t>& answer = transpose ? w.column_of_row : w.row_of_column;
  for (int64_t t = 0; t < p.max_targets; ++t) query_of_target[t] = t < num_targets ? answer[t] : -1;
}

}  // namespace

void linear_sum_assignment(const LinearSumAssignmentParams& params, int64_t begin, int64_t end) {
  Workspace workspace;
  const auto solve_all = [&](auto type) {
    const auto* cost = static_cast<const decltype(type)*>(params.cost);
    for (int64_t problem = begin; problem < end; ++problem) solve(params, cost, problem, workspace);
  };
  if (params.cost_dtype == DType::float64) return solve_all(double{});
  for_float_type(params.cost_dtype, solve_all);
}

}  // namespace maskformer_ext::MASKFORMER_EXT_VARIANT
