"""What is installed: Python, this package, torch and NumPy, and the optional packages of each extra."""

from __future__ import annotations

import importlib
import platform
import re
from collections.abc import Collection
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import maskformer_ext
from maskformer_ext.cli.extras import optional_packages
from maskformer_ext.cli.health.findings import NOTE, TROUBLE, Section
from maskformer_ext.errors import why

# Distributions whose name is not that of the module, with hyphens.
_DISTRIBUTIONS = {
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
_OLDEST = {"torch": (2, 11), "numpy": (1, 24)}  # of pyproject.toml
# Those that break where they were built for another torch, NumPy or system.
_IMPORTED = ("torchvision", "timm", "PIL", "av", "safetensors")


def look_at_packages() -> list[Section]:
    """Return what is installed, and what each extra lacks."""
    base = Section("installed")
    base.add("maskformer-ext", f"{maskformer_ext.__version__} in {Path(maskformer_ext.__file__).parent}")
    base.add("Python", f"{platform.python_version()} ({platform.python_implementation()})")
    base.add("system", f"{platform.platform()}")
    for name in ("torch", "numpy"):
        _required(base, name)
    optional = Section("optional packages")
    for extra, packages in optional_packages().items():
        _extra(optional, extra, packages)
    return [base, optional]


def version_of(package: str) -> str | None:
    """Return the version of an installed module's distribution, None where it is not installed."""
    try:
        if find_spec(package) is None:
            return None
        return metadata.version(_DISTRIBUTIONS.get(package, package.replace("_", "-")))
    except metadata.PackageNotFoundError:
        return "installed"
    except (ImportError, ValueError):  # of what stands in for it
        return None


def _required(section: Section, name: str) -> None:
    version = version_of(name)
    if version is None:
        section.add(name, "missing", TROUBLE, f"pip install {name}")
        return
    oldest = _OLDEST[name]
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if problem := _import_problem(name):
        told = f"{version}, which does not import: {problem}"
        section.add(name, told, TROUBLE, f"pip install --force-reinstall {name}")
    elif found and found < oldest:
        least = ".".join(map(str, oldest))
        section.add(name, f"{version}, older than {least}", TROUBLE, f"pip install '{name}>={least}'")
    else:
        section.add(name, version)


def _extra(section: Section, extra: str, packages: tuple[str, ...]) -> None:
    versions = {package: version_of(package) for package in packages}
    missing = [package for package, version in versions.items() if version is None]
    absent = {*missing, *(package for package in _OLDEST if version_of(package) is None)}
    broken = {
        package: problem
        for package, version in versions.items()
        if version is not None and package in _IMPORTED and (problem := _import_problem(package, absent))
    }
    install = f"pip install 'maskformer-ext[{extra}]'"
    there = ", ".join(f"{package} {version}" for package, version in versions.items() if version is not None)
    if broken:
        package, problem = next(iter(broken.items()))
        distribution = _DISTRIBUTIONS.get(package, package.replace("_", "-"))
        remedy = f"pip install --force-reinstall --no-deps {distribution}, in the version that goes with this torch"
        section.add(extra, f"{package} {versions[package]} does not import: {problem}", TROUBLE, remedy)
    elif missing:
        section.add(extra, f"lacks {', '.join(missing)}" + (f"; has {there}" if there else ""), NOTE, install)
    else:
        section.add(extra, there)


def _import_problem(package: str, absent: Collection[str] = ()) -> str:
    """Return why a package does not import; nothing where one of those is to blame that are known to be missing."""
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        return "" if error.name in absent else f"{type(error).__name__}: {why(error)}"
    except Exception as error:  # a broken package may raise anything
        return f"{type(error).__name__}: {why(error)}"
    return ""
