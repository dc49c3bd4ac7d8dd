"""The documents: links lead somewhere, files and make targets that they name exist, samples of Python compile."""

from __future__ import annotations

import re
import textwrap
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Folders whose files a document names by their path from the root.
_ROOMS = "csrc|maskformer_ext|python_tests|docs|tools|benchmarks|examples|cmake"
_ENDINGS = "py|md|cpp|cuh|cu|h|yaml|json|cmake|sh|svg"
_PLACEHOLDER = re.compile(r"[<>*{}]|\b(NAME|FILE|DEVICE)\b|…|\.\.\.")


def _find_below(*places: str) -> list[Path]:
    """Return the files below some places of the project as paths from its root, in order."""
    found = [path for place in places for path in ROOT.glob(place) if path.is_file()]
    return sorted(path.relative_to(ROOT) for path in found if "__pycache__" not in path.parts)


DOCUMENTS = _find_below("*.md", ".github/**/*.md", *(f"{room}/**/*.md" for room in _ROOMS.split("|")))
pytestmark = pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="the tests of an installed package")
per_document = pytest.mark.parametrize("document", DOCUMENTS, ids=str)


@cache
def _read(document: Path) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def _without_code(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


@cache
def _find_anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *$", _without_code(_read(document)), re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        copies = sum(
            known == anchor or re.fullmatch(rf"{re.escape(anchor)}-\d+", known) is not None for known in anchors
        )
        anchors.add(f"{anchor}-{copies}" if copies else anchor)
    return anchors


def find_dead_links(document: Path) -> list[str]:
    """Return the relative links of a document whose file or anchor is not there."""
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(_read(document))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / document).parent / name if name else ROOT / document
        if not path.exists():
            dead.append(target)
        elif anchor:
            read = path.resolve().relative_to(ROOT)
            if read.suffix == ".md" and anchor not in _find_anchors(read):
                dead.append(target)
    return dead


@cache
def _find_files() -> list[str]:
    """Return the paths of all files of the project, each after a slash."""
    return [f"/{path}" for path in _find_below("*", *(f"{room}/**/*" for room in _ROOMS.split("|")))]


def find_missing_files(text: str) -> list[str]:
    """Return the files that a text names and that do not exist.

    These are paths below the rooms, anywhere in the text, and sources in backticks by the end of their path.
    """
    paths = set(re.findall(rf"(?<![\w/.-])((?:{_ROOMS})/[\w./-]*\w\.(?:{_ENDINGS}))\b(?!\()", text))
    paths |= set(re.findall(rf"`((?:{_ROOMS})/[^`\s:]*)`", text))
    sources = set(re.findall(r"`([\w/-]+\.(?:py|cpp|cuh?|h|cmake|svg))`", text))
    missing = [path for path in paths if not _PLACEHOLDER.search(path) and not (ROOT / path).exists()]
    missing += [name for name in sources - paths if not any(path.endswith(f"/{name}") for path in _find_files())]
    return sorted(missing)


def find_missing_modules(text: str) -> list[str]:
    """Return the modules ``maskformer_ext.x.y`` that a text names, where neither module nor name is there."""
    missing = []
    for dotted in sorted(set(re.findall(r"(?<!torch\.ops\.)\bmaskformer_ext((?:\.[a-z_][a-z_0-9]*)+)", text))):
        here = ROOT / "maskformer_ext"
        for part in dotted.strip(".").split("."):
            if (here / part).is_dir():
                here = here / part
            elif (here / f"{part}.py").is_file():
                here = here / f"{part}.py"
            else:
                source = here if here.is_file() else here / "__init__.py"
                if not re.search(rf"\b{part}\b", source.read_text(encoding="utf-8")):
                    missing.append(f"maskformer_ext{dotted}")
                break
    return missing


def find_missing_targets(text: str) -> list[str]:
    """Return the targets that a text calls by ``make`` and that the Makefile lacks."""
    known = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    code = "".join(re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL))
    named = re.findall(r"`make\s+([a-z][\w-]*)", text) + re.findall(r"^make ([a-z][\w-]*)", code, re.MULTILINE)
    return sorted(set(named) - known)


@per_document
def test_links_lead_somewhere(document: Path) -> None:
    assert find_dead_links(document) == []


@per_document
def test_files_that_are_named_exist(document: Path) -> None:
    # The changelog names files as they were.
    text = _read(document) if document.name != "CHANGELOG.md" else ""
    assert find_missing_files(text) == []
    assert find_missing_modules(text) == []


def test_files_that_comments_and_messages_name_exist() -> None:
    rooms = [f"{room}/**/*" for room in ("csrc", "maskformer_ext", "tools", "benchmarks", "examples", ".github")]
    sources = _find_below("Makefile", "CMakeLists.txt", "setup.py", "cmake/*", *rooms)
    texts = [source for source in sources if source.suffix not in {".so", ".json"}]
    missing = {str(source): find_missing_files(_read(source)) for source in texts}
    assert {source: names for source, names in missing.items() if names} == {}


@per_document
def test_make_targets_exist(document: Path) -> None:
    text = _read(document) if document.name != "CHANGELOG.md" else ""
    assert find_missing_targets(text) == []


@per_document
def test_samples_of_python_compile(document: Path) -> None:
    for number, sample in enumerate(re.findall(r"^ *```python\n(.*?)^ *```", _read(document), re.M | re.S)):
        compile(textwrap.dedent(sample), f"{document}, sample {number}", "exec")


def test_what_is_missing_is_found() -> None:
    text = "`csrc/mask_loss/lost.h` `mask_loss.cpp` `csrc/<op>/` docs/lost.md `lost/case.py` maskformer_ext.lost.x"
    assert find_missing_files(text) == ["csrc/mask_loss/lost.h", "docs/lost.md", "lost/case.py"]
    assert find_missing_modules(text) == ["maskformer_ext.lost.x"]
    assert find_missing_targets("`make lose` `make test` to make sense") == ["lose"]
