// The pybind11 module `_native`: what evaluation counts, NumPy in and out, no torch.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "common/cpu_dispatch.h"

namespace py = pybind11;

namespace {

using Int64Array = py::array_t<int64_t, py::array::c_style>;

// A label map as contiguous int64. Floats are refused, not rounded.
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
  for (int64_t i = 0; i < prediction.size();) {  // one look-up per run of equal pairs
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
  module.doc() = "What evaluation counts in label maps, NumPy in and out.";
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
