"""Every op of the list has all that an op must have, and nothing of an op lies beside the list."""

from __future__ import annotations

import pytest
from catalog_parts import ROOT, beside_the_list, missing_parts, missing_parts_of_numpy

from maskformer_ext.ops import catalog
from maskformer_ext.ops.support.library import REFERENCE

pytestmark = [
    pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="the tests of an installed package"),
    pytest.mark.skipif(REFERENCE, reason="MASKFORMER_EXT_REFERENCE=1"),
]


@pytest.mark.parametrize("op", catalog.OPS, ids=lambda op: op.name)
def test_an_op_has_all_its_parts(op: catalog.Op) -> None:
    missing = missing_parts(op)
    assert not missing, f"{op.name} lacks\n" + "\n".join(missing)


@pytest.mark.parametrize("op", catalog.NUMPY_OPS, ids=lambda op: op.name)
def test_an_op_of_arrays_has_all_its_parts(op: catalog.Op) -> None:
    missing = missing_parts_of_numpy(op)
    assert not missing, f"{op.name} lacks\n" + "\n".join(missing)


def test_nothing_lies_beside_the_list() -> None:
    assert beside_the_list() == []


def test_each_name_is_there_once_and_in_order() -> None:
    names = [op.name for op in catalog.OPS]
    assert names == sorted(set(names))
    for field in ("native", "functions"):
        listed = [name for op in catalog.OPS for name in getattr(op, field)]
        assert len(listed) == len(set(listed))


def test_all_that_a_new_op_lacks_is_named() -> None:
    assert missing_parts(catalog.Op("made_up", ("made_up", "made_up_backward"))) == [
        "csrc/made_up/made_up.cpp: the CPU kernel",
        "csrc/made_up/binding.cpp",
        "csrc/made_up/binding_cuda.cpp",
        "maskformer_ext/ops/made_up.py",
        "python_tests/ops/test_made_up.py",
        "benchmarks/bench_made_up.py",
        "csrc/made_up/made_up.cu: the CUDA kernel",
        "maskformer_ext/ops/__init__.py: made_up is imported and is in __all__",
        "csrc/made_up/binding.cpp: made_up is registered (and the library built)",
        "csrc/made_up/binding.cpp: made_up_backward is registered (and the library built)",
        "python_tests/ops/op_samples/made_up.py",
        "docs/kernels/README.md: a row of `made_up`",
        "README.md: `made_up` in the table of ops",
    ]


def test_all_that_a_new_op_of_arrays_lacks_is_named() -> None:
    assert missing_parts_of_numpy(catalog.Op("areas", (), kernels="areas")) == [
        "maskformer_ext/ops/areas.py",
        "python_tests/ops/test_areas.py",
        "csrc/areas",
        "maskformer_ext/ops/__init__.py: areas is imported and is in __all__",
        "docs/kernels/README.md: a row of `areas`",
        "README.md: `areas` in the table of ops",
    ]
