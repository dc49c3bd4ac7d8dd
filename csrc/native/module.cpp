// The pybind11 module `_native`: NumPy in and out, no torch.
#include <pybind11/pybind11.h>

#include "common/cpu_dispatch.h"

namespace py = pybind11;

PYBIND11_MODULE(_native, module) {
  module.doc() = "NumPy bindings of maskformer_ext's torch-free kernels.";
  module.def("build_info", [] {
    py::dict info;
    info["compiler"] = MASKFORMER_EXT_CXX_COMPILER;
    info["cpu"] = maskformer_ext::cpu_level_name();
    return info;
  });
}
