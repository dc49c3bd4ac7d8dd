// The pybind11 module `_native`: NumPy in and out, no torch.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/cpu_dispatch.h"
#include "linear_sum_assignment/linear_sum_assignment.h"

namespace py = pybind11;

namespace {

using Int64Array = py::array_t<int64_t, py::array::c_style>;
// Made from any object, as NumPy makes arrays; what has no safe cast to double (text, objects, complex numbers, dates)
// is NumPy's TypeError, as in SciPy.
using DoubleArray = py::array_t<double, py::array::c_style>;

// A label map as contiguous int64; floats are refused rather than rounded.
Int64Array as_labels(const py::array& array, const char* function, const char* argument) {
  const char kind = array.dtype().kind();
  if (kind != 'i' && kind != 'u') {
    throw py::type_error(std::string(function) + ": " + argument + " must have an integer dtype, got " +
                         py::str(array.dtype()).cast<std::string>());
  }
  return py::array_t<int64_t, py::array::c_style | py::array::forcecast>(array);
}

void check_same_shape(const py::array& a, const py::array& b, const char* function) {
  bool same = a.ndim() == b.ndim();
  for (py::ssize_t i = 0; same && i < a.ndim(); ++i) same = a.shape(i) == b.shape(i);
  if (!same) {
    throw py::value_error(std::string(function) + ": prediction and truth must have the same shape, got " +
                          py::str(a.attr("shape")).cast<std::string>() + " and " +
                          py::str(b.attr("shape")).cast<std::string>());
  }
}

// SciPy's function of the same name: same indices, same errors.
std::pair<Int64Array, Int64Array> linear_sum_assignment(const py::object& cost_object, const py::object& maximize_in) {
  const int truth = PyObject_IsTrue(maximize_in.ptr());
  if (truth < 0) throw py::error_already_set();
  const bool maximize = truth == 1;
  const DoubleArray cost_in(cost_object);
  if (cost_in.ndim() != 2) {
    throw py::value_error("expected a matrix (2-D array), got a " + std::to_string(cost_in.ndim()) + " array");
  }
  const int64_t rows = cost_in.shape(0), columns = cost_in.shape(1);
  std::vector<double> cost(cost_in.data(), cost_in.data() + cost_in.size());
  for (double& c : cost) {
    c = maximize ? -c : c;
    if (std::isnan(c) || c == -INFINITY) throw py::value_error("matrix contains invalid numeric entries");
  }
  std::vector<int64_t> row_of_column(columns);
  bool forced = false;
  {
    py::gil_scoped_release release;
    const maskformer_ext::LinearSumAssignmentParams params = {
        .cost = cost.data(),
        .cost_dtype = maskformer_ext::DType::float64,
        .num_targets = &columns,
        .num_queries = rows,
        .max_targets = columns,
        .query_of_target = row_of_column.data(),
        .forced = &forced,
    };
    maskformer_ext::linear_sum_assignment(params, 0, 1);
  }
  if (forced) throw py::value_error("cost matrix is infeasible");
  std::vector<int64_t> column_of_row(rows, -1);
  for (int64_t j = 0; j < columns; ++j) {
    if (row_of_column[j] >= 0) column_of_row[row_of_column[j]] = j;
  }
  const int64_t matched = std::min(rows, columns);
  Int64Array row_indices(matched), column_indices(matched);
  int64_t k = 0;
  for (int64_t i = 0; i < rows; ++i) {
    if (column_of_row[i] < 0) continue;
    row_indices.mutable_at(k) = i;
    column_indices.mutable_at(k++) = column_of_row[i];
  }
  return {row_indices, column_indices};
}

// The op maskformer_ext.ops.linear_sum_assignment for one batch dimension, on one thread.
Int64Array linear_sum_assignment_batch(const py::object& cost_object, const py::array& num_targets_in) {
  const DoubleArray cost(cost_object);
  const char* name = "linear_sum_assignment_batch";
  const Int64Array num_targets = as_labels(num_targets_in, name, "num_targets");
  if (cost.ndim() != 3 || num_targets.ndim() != 1 || num_targets.shape(0) != cost.shape(0)) {
    throw py::value_error(std::string(name) + ": cost must be (N, Q, T) and num_targets (N,), got " +
                          py::str(cost.attr("shape")).cast<std::string>() + " and " +
                          py::str(num_targets.attr("shape")).cast<std::string>());
  }
  for (int64_t i = 0; i < num_targets.shape(0); ++i) {
    if (num_targets.at(i) < 0 || num_targets.at(i) > cost.shape(2)) {
      throw py::value_error(std::string(name) +
                            ": num_targets must lie in [0, T] with T = " + std::to_string(cost.shape(2)) + ", got " +
                            std::to_string(num_targets.at(i)) + " for problem " + std::to_string(i));
    }
  }
  Int64Array assignment({cost.shape(0), cost.shape(2)});
  const maskformer_ext::LinearSumAssignmentParams params = {
      .cost = cost.data(),
      .cost_dtype = maskformer_ext::DType::float64,
      .num_targets = num_targets.data(),
      .num_queries = cost.shape(1),
      .max_targets = cost.shape(2),
      .query_of_target = assignment.mutable_data(),
      .forced = nullptr,
  };
  const int64_t problems = cost.shape(0);
  py::gil_scoped_release release;
  maskformer_ext::linear_sum_assignment(params, 0, problems);
  return assignment;
}

Int64Array confusion_matrix(const py::array& prediction_in, const py::array& truth_in, int64_t num_classes,
                            int64_t ignore) {
  const char* name = "confusion_matrix";
  check_same_shape(prediction_in, truth_in, name);
  const Int64Array prediction = as_labels(prediction_in, name, "prediction");
  const Int64Array truth = as_labels(truth_in, name, "truth");
  Int64Array matrix({num_classes, num_classes});
  std::fill_n(matrix.mutable_data(), matrix.size(), 0);
  const int64_t *p = prediction.data(), *t = truth.data();
  for (int64_t i = 0; i < prediction.size(); ++i) {
    if (t[i] == ignore) continue;
    for (const auto& [argument, value] : {std::pair{"truth", t[i]}, std::pair{"prediction", p[i]}}) {
      if (value < 0 || value >= num_classes) {
        throw py::value_error(std::string(name) + ": " + argument + " must lie in [0, " + std::to_string(num_classes) +
                              "), got " + std::to_string(value));
      }
    }
    ++matrix.mutable_data()[t[i] * num_classes + p[i]];
  }
  return matrix;
}

std::tuple<Int64Array, Int64Array, Int64Array> panoptic_intersections(const py::array& prediction_in,
                                                                      const py::array& truth_in) {
  const char* name = "panoptic_intersections";
  check_same_shape(prediction_in, truth_in, name);
  const Int64Array prediction = as_labels(prediction_in, name, "prediction");
  const Int64Array truth = as_labels(truth_in, name, "truth");
  std::map<std::pair<int64_t, int64_t>, int64_t> counts;
  const int64_t *p = prediction.data(), *t = truth.data();
  for (int64_t i = 0; i < prediction.size();) {  // one look-up a run of equal pairs
    const int64_t start = i;
    while (i < prediction.size() && p[i] == p[start] && t[i] == t[start]) ++i;
    counts[{p[start], t[start]}] += i - start;
  }
  const auto size = static_cast<int64_t>(counts.size());
  Int64Array prediction_ids(size), truth_ids(size), areas(size);
  int64_t k = 0;
  for (const auto& [pair, area] : counts) {
    prediction_ids.mutable_at(k) = pair.first;
    truth_ids.mutable_at(k) = pair.second;
    areas.mutable_at(k++) = area;
  }
  return {prediction_ids, truth_ids, areas};
}

py::dict build_info() {
  py::dict info;
  info["compiler"] = MASKFORMER_EXT_CXX_COMPILER;
  info["cpu"] = maskformer_ext::cpu_level_name();
  return info;
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  using namespace pybind11::literals;
  module.doc() = "NumPy bindings of maskformer_ext's torch-free kernels.";
  module.def("linear_sum_assignment", &linear_sum_assignment, "cost"_a, "maximize"_a = false,
             "Solve one assignment problem as scipy.optimize.linear_sum_assignment does.\n\n"
             "Args:\n    cost: (rows, columns) array; +inf forbids a pair.\n    maximize: whether to maximise.\n\n"
             "Returns:\n    (row_indices, column_indices), int64, rows ascending.\n\n"
             "Raises:\n    TypeError: entries that have no safe cast to float64, as text or complex numbers.\n"
             "    ValueError: not a matrix, a NaN or -inf entry, or no complete assignment.");
  module.def("linear_sum_assignment_batch", &linear_sum_assignment_batch, "cost"_a, "num_targets"_a,
             "Solve a batch as maskformer_ext.ops.linear_sum_assignment does.\n\n"
             "Args:\n    cost: (N, Q, T) array; NaN and infinities forbid a pair.\n    num_targets: (N,) integers.\n\n"
             "Returns:\n    (N, T) int64, the query of each target, -1 for padding and the unmatched.");
  module.def("confusion_matrix", &confusion_matrix, "prediction"_a, "truth"_a, "num_classes"_a, "ignore"_a = 255,
             "Count pixels by (true class, predicted class).\n\n"
             "Args:\n    prediction: integer array of class ids.\n    truth: integer array of the same shape.\n"
             "    num_classes: K.\n    ignore: pixels with this true class are left out.\n\n"
             "Returns:\n    (K, K) int64, rows are true classes.\n\n"
             "Raises:\n    ValueError: the shapes differ, or a class id lies outside [0, K).");
  module.def("panoptic_intersections", &panoptic_intersections, "prediction"_a, "truth"_a,
             "Count pixels by (predicted segment id, true segment id).\n\n"
             "Args:\n    prediction: integer array of segment ids.\n    truth: integer array of the same shape.\n\n"
             "Returns:\n    (prediction_ids, truth_ids, areas), each (P,) int64: the pairs that occur, ascending.");
  module.def("build_info", &build_info,
             "Describe the build.\n\nReturns:\n    dict with 'compiler' and 'cpu', the instruction set in use.");
}
