"""The house: which room may import which, no circle, few places at the top, and how long files may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskformer_ext.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "maskformer_ext"
# From the bottom to the top: a room imports those before it, never those after it.
LEVELS = [
    "errors",
    "files",
    "config",
    "media",
    "ops",
    "data",
    "modeling",
    "checkpoints",
    "pictures",
    "inference",
    "prediction",
    "evaluation",
    "engine",
    "cli",
    "demo",
    "commands",
]
BESIDE = {"integrations": {"errors", "ops", "modeling"}}  # a room that nothing imports, and what it may import
AT_THE_TOP = {module.split(".")[1] for module in COMMANDS.values() if module.count(".") == 1}  # others have rooms
MOST_PLACES = 24
MOST_LINES = 400


def _room(module: str) -> str:
    name = module.split(".")[1]
    return "commands" if name in {*AT_THE_TOP, "__main__"} else name


def _modules() -> dict[str, Path]:
    paths = {path: path.relative_to(ROOT).with_suffix("") for path in PACKAGE.rglob("*.py")}
    return {".".join(name.parts).removesuffix(".__init__"): path for path, name in paths.items()}


MODULES = _modules()


def _imports(path: Path) -> Iterator[str]:
    """Yield the modules of this package that a file imports, wherever in it, but for what only type checkers read."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(below)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for below in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            while name and name not in MODULES:
                name = name.rpartition(".")[0]
            if name and name != "maskformer_ext":
                yield name


GRAPH = {module: sorted(set(_imports(path)) - {module}) for module, path in MODULES.items()}


def test_every_room_has_a_level() -> None:
    rooms = {_room(module) for module in MODULES if module != "maskformer_ext"}
    assert rooms == {*LEVELS, *BESIDE}


@pytest.mark.parametrize("module", sorted(GRAPH))
def test_arrows_point_down(module: str) -> None:
    if module == "maskformer_ext":
        assert GRAPH[module] == [], "importing the package imports nothing of it"
        return
    room = _room(module)
    allowed = BESIDE[room] | {room} if room in BESIDE else set(LEVELS[: LEVELS.index(room) + 1])
    wrong = [imported for imported in GRAPH[module] if _room(imported) not in allowed]
    assert not wrong, f"{module} ({room}) imports {', '.join(wrong)}, which lie above it"


def test_no_module_imports_itself_by_a_detour() -> None:
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module not in done:
            for imported in GRAPH[module]:
                visit(imported, (*way, module))
            done.add(module)

    for module in GRAPH:
        visit(module, ())


def test_few_places_lie_at_the_top() -> None:
    places = {path.name for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert len(places - {"__init__.py"}) <= MOST_PLACES


def _sources() -> list[Path]:
    folders = ("maskformer_ext", "csrc", "python_tests", "benchmarks", "tools", "examples")
    kinds = {".py", ".cpp", ".cu", ".cuh", ".h"}
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*")) if path.suffix in kinds]


def test_no_file_is_too_long() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in _sources()}
    long = [f"{path.relative_to(ROOT)}: {length} lines" for path, length in lengths.items() if length > MOST_LINES]
    assert not long, "\n".join(long)


def test_no_kernel_includes_from_the_tests() -> None:
    sources = [path for path in _sources() if path.is_relative_to(ROOT / "csrc")]
    assert sources
    assert not [path for path in sources if "python_tests" in path.read_text(encoding="utf-8")]
