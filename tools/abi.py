"""Show that a library built against this torch loads and gives equal results under older ones.

It builds one wheel with the torch of the running Python. Then, for each older version, it

1. makes a virtual environment with that torch and the wheel;
2. computes every native op on fixed inputs, and compares the results with those under the torch of the build;
3. runs the tests of the ops.

Each step's outcome is a line per version. The environments (about 5.5 GB each) are removed afterwards.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("2.13.0", "2.11.0")
TEST_PACKAGES = ("numpy", "scipy", "pytest", "pytest-timeout", "hypothesis")


def run(*command: str | Path, **options) -> subprocess.CompletedProcess[str]:
    """Run a command; exit with its output if it fails."""
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if result.returncode != 0:
        sys.exit(f"abi: failed: {' '.join(map(str, command))}\n{result.stdout}{result.stderr}")
    return result


def build_wheel(folder: Path) -> Path:
    """Build the wheel against the torch of the running Python."""
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=ROOT)
    return next(folder.glob("*.whl"))


def install(folder: Path, torch_version: str, wheel: Path) -> Path:
    """Make an environment with one torch and the wheel, and return its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check", "-q", "install", "--no-cache-dir"]
    run(*pip, f"torch=={torch_version}", *TEST_PACKAGES)
    run(*pip, "--no-deps", wheel)
    return python


def environment(**variables: str) -> dict[str, str]:
    """Return the variables of a run: none of this project's, and two threads."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MASKFORMER_EXT_", "PYTHONPATH"))}
    return kept | {"OMP_NUM_THREADS": "2"} | variables


def results(python: Path, folder: Path, name: str, **variables: str) -> Path:
    """Compute every native op in one environment, and return the file of results."""
    output = folder / f"{name}.npz"
    # It runs in another folder, so that Python finds the installed package and not the checkout.
    run(python, ROOT / "tools" / "abi_results.py", output, cwd=folder, env=environment(**variables))
    return output


def test_ops(python: Path, folder: Path) -> str:
    """Run the tests of the ops and return pytest's closing line. They run from a copy, on the installed package."""
    tests = folder / "tests"
    shutil.copytree(ROOT / "python_tests", tests, dirs_exist_ok=True)
    options = ["-q", "-p", "no:cacheprovider", "-m", "not slow", "-o", f"pythonpath={tests / 'shared'}"]
    result = run(python, "-m", "pytest", *options, tests / "ops", cwd=folder, env=environment())
    return result.stdout.strip().splitlines()[-1]


def main() -> None:
    """Build, install and compare, and print the outcome per version."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("versions", nargs="*", default=VERSIONS, help=f"older torch versions (default {VERSIONS})")
    parser.add_argument("--folder", type=Path, help="where the environments go (default: a temporary folder)")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="maskformer-ext-abi-", dir=args.folder))
    try:
        wheel = build_wheel(folder)
        run(sys.executable, "-m", "pip", "-q", "install", "--no-deps", "--target", folder / "site", wheel)
        expected = results(Path(sys.executable), folder, "built", PYTHONPATH=str(folder / "site"))
        print(f"{wheel.name}, built against torch {version('torch')}", flush=True)
        for torch_version in args.versions:
            place = folder / f"torch-{torch_version}"
            python = install(place, torch_version, wheel)
            found = results(python, folder, torch_version)
            compared = run(
                sys.executable, ROOT / "tools" / "abi_results.py", "--compare", expected, found
            ).stdout.strip()
            print(f"torch {torch_version}: {compared}", flush=True)
            print(f"torch {torch_version}: ops tests: {test_ops(python, folder)}", flush=True)
            shutil.rmtree(place)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
