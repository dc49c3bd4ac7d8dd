"""Run the tests of the integrations under other versions of transformers.

A version goes into a folder of its own, with what it needs in other versions than the environment has. The folder
stands before the environment's packages, which stay as they are. The outcome is a line per version. The folders (about
100 MB each) are removed afterwards, unless --folder names a place to keep them.
"""

import argparse
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("4.33.3", "4.50.3", "5.4.0")  # the oldest; the first with the shared module; one of the present line


def install(folder: Path, version: str) -> None:
    """Put a version of transformers into a folder, and all that it needs and the environment lacks."""
    wanted = [Requirement(f"transformers=={version}")]
    limits: dict[str, SpecifierSet] = {}
    while wanted:
        requirement = wanted.pop(0)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = canonicalize_name(requirement.name)
        known = name in limits
        limits[name] = limits.get(name, SpecifierSet()) & requirement.specifier
        present = versions(name, folder)[:1]
        if not present or not limits[name].contains(present[0], prereleases=True):
            pip(folder, f"{requirement.name}{limits[name]}")
            known = False
        if not known:
            for installed in importlib.metadata.distributions(name=name, path=[str(folder)]):
                wanted += [Requirement(line) for line in installed.requires or ()]


def versions(name: str, folder: Path) -> list[str]:
    """Return the versions of a package: that in the folder, then that of the environment."""
    places = [str(folder), *sys.path]
    return [found.version for found in importlib.metadata.distributions(name=name, path=places)]


def pip(folder: Path, requirement: str) -> None:
    """Install one package into a folder, without what it needs; exit with pip's words if that fails."""
    options = ["--disable-pip-version-check", "-q", "install", "--no-deps", "--upgrade", "--target", str(folder)]
    result = subprocess.run([sys.executable, "-m", "pip", *options, requirement], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"transformers_versions: {requirement} does not install\n{result.stdout}{result.stderr}")


def run_tests(folder: Path, options: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the tests of the integrations with a folder's packages before the environment's."""
    before = [str(folder), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(before), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--show-capture=no"]
    command += ["python_tests/integrations", *options]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def main() -> None:
    """Install and test each version, print its outcome, and exit with 1 where a test failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("versions", nargs="*", default=VERSIONS, help=f"versions of transformers (default {VERSIONS})")
    parser.add_argument("--folder", type=Path, help="keep the packages here and use what lies here already")
    parser.add_argument("-k", help="run only the tests that pytest's -k chooses")
    args = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(prefix="maskformer-ext-transformers-") as temporary:
        for version in args.versions:
            folder = (args.folder or Path(temporary)).resolve() / version
            folder.mkdir(parents=True, exist_ok=True)
            install(folder, version)
            result = run_tests(folder, ["-k", args.k] if args.k else [])
            lines = (result.stdout.strip() or result.stderr.strip() or "no output").splitlines()
            print(f"transformers {version}: {lines[-1]}", flush=True)
            if result.returncode != 0:
                failed = True
                print("\n".join(line for line in lines if line.startswith(("FAILED", "ERROR", "E  "))), flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
