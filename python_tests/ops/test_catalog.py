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
    assert missing_parts(catalog.Op("mask_area", ("mask_area", "mask_area_backward"))) == [
        "csrc/mask_area/mask_area.cpp: the CPU kernel",
        "csrc/mask_area/binding.cpp",
        "csrc/mask_area/binding_cuda.cpp",
        "maskformer_ext/ops/mask_area.py",
        "python_tests/ops/test_mask_area.py",
        "benchmarks/bench_mask_area.py",
        "csrc/mask_area/mask_area.cu: the CUDA kernel",
        "maskformer_ext/ops/__init__.py: mask_area is imported and is in __all__",
        "csrc/mask_area/binding.cpp: mask_area is registered (and the library built)",
        "csrc/mask_area/binding.cpp: mask_area_backward is registered (and the library built)",
        "python_tests/ops/op_samples/mask_area.py",
        "docs/kernels/README.md: a row of `mask_area`",
        "README.md: `mask_area` in the table of ops",
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
