"""The documentation as a site: it builds without a warning, is whole, and follows the code."""

from __future__ import annotations

import ast
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "docs").is_dir():
    pytest.skip("the tests of an installed package", allow_module_level=True)
sys.path.insert(0, str(ROOT / "tools"))

import docs_pages  # noqa: E402
import docs_site  # noqa: E402


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("zensical")
    pytest.importorskip("mkdocstrings_handlers.python")
    return docs_site.build(tmp_path_factory.mktemp("docs"))


class _Text(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def _text(path: Path) -> str:
    return "".join(_Text(path).parts)


def _page(site: Path, source: str) -> Path:
    return site / re.sub(r"(^|/)README\.md$", r"\1index.md", source).replace(".md", ".html")


def test_every_page_of_the_navigation_is_there(site: Path) -> None:
    pages = docs_pages.make_pages(ROOT)
    config = docs_site.make_config((docs_site.DOCS / "site" / "mkdocs.yml").read_text(encoding="utf-8"), pages)
    named = re.findall(r"- (?:[^:\n]+: )?([\w/.-]+\.md)(?: +#.*)?$", config, re.MULTILINE)
    assert [name for name in named if not _page(site, name).is_file()] == []
    assert sorted(set(named)) == sorted(page.path for page in pages), "each page stands in the navigation"
    assert len(set(named)) == len(named), "and no page twice"


def test_every_command_has_a_page_with_its_help(site: Path) -> None:
    names = docs_pages.command_names(ROOT)
    assert "train" in names
    for name in names:
        text = _text(site / "commands" / f"{name}.html")
        assert docs_pages.read_help(ROOT, name) in text, name


def test_every_public_op_has_its_docstring_in_the_api(site: Path) -> None:
    tree = ast.parse((ROOT / "maskformer_ext" / "ops" / "__init__.py").read_text(encoding="utf-8"))
    modules = {name.name: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names}
    page = (site / "api" / "ops.html").read_text(encoding="utf-8")
    assert [name for name, module in modules.items() if f'id="{module}.{name}"' not in page] == []
    assert "Parameters:" in page and "Returns:" in page and "float = 20.0" in _text(site / "api" / "ops.html")


def test_the_first_page_shows_the_figures_of_the_readme(site: Path) -> None:
    bars = docs_pages.speed_bars((ROOT / "README.md").read_text(encoding="utf-8"))
    assert bars.count('class="bar"') > 10
    assert bars in (site / "index.html").read_text(encoding="utf-8")


def test_search_has_an_index_that_needs_no_server(site: Path) -> None:
    assert "matching_cost" in (site / "search.js").read_text(encoding="utf-8")
    assert "iframe-worker.js" in (site / "index.html").read_text(encoding="utf-8")


def test_dead_links_and_files_from_elsewhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="b.html#there">b</a><a href="b.html#lost">b</a><a href="c.html">c</a>'
        '<a href="https://example.org">elsewhere</a><script src="https://example.org/x.js"></script>'
    )
    (tmp_path / "b.html").write_text('<h1 id="there">B</h1>')
    (tmp_path / "x.css").write_text("@import url(https://example.org/font.css);")
    assert list(docs_site.find_problems(tmp_path)) == [
        "a.html loads https://example.org/x.js: every file of the site must lie beside it",
        "a.html: b.html#lost has no such heading",
        "a.html: the link c.html leads nowhere",
        "x.css loads something from the network",
    ]


def test_links_lead_to_pages_of_the_site_or_become_text() -> None:
    places = {
        "docs/a/b.md": "a/b.md",
        "csrc/README.md": "native-code.md",
        "docs/kernels/README.md": "kernels/README.md",
    }
    text = "[c](../../csrc/README.md#x) [k](../kernels) [s](../../setup.py) ![p](../p.svg) [h](#h) [w](https://w.org)"
    assert docs_pages.rewrite_links(text, "docs/a/b.md", places) == (
        "[c](../native-code.md#x) [k](../kernels/README.md) s ![p](../p.svg) [h](#h) [w](https://w.org)"
    )
    assert docs_pages.rewrite_links(f"```\n{text}\n```", "docs/a/b.md", places) == f"```\n{text}\n```"


def test_a_sample_that_left_its_program_is_named(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "x.py").write_text("if True:\n    a = 1\n    b = 2\n")
    sample = '```python title="examples/x.py"\na = 1\nb = {}\n```\n'
    docs_pages.check_samples(tmp_path, sample.format(2), "page.md")
    with pytest.raises(docs_pages.SiteError, match=r"page\.md: the sample .* is not in examples/x"):
        docs_pages.check_samples(tmp_path, sample.format(3), "page.md")


def test_a_command_and_a_document_that_nothing_names_get_their_place() -> None:
    pages = [docs_pages.Page(path, "", "") for path in ("data.md", "demo.md", "examples/x.md", "kernels/y.md")]
    entries = ("data.md", "x: lost.md  # where it is there", "OTHERS", "EXAMPLES", "COMMANDS")
    template = "paths: [SOURCES]\nnav:\n" + "".join(f"  - {entry}\n" for entry in entries)
    config = docs_site.make_config(template, pages)
    assert f"paths: [{ROOT}]" in config
    assert "  - demo.md\n  - examples/x.md\n" in config
    assert "  - train: commands/train.md\n" in config
    assert "lost.md" not in config


def test_warnings_of_the_builder_end_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zensical")
    page = docs_pages.Page("index.md", "docs/index.md", "# Start\n\n[lost](lost.md)\n")
    monkeypatch.setattr(docs_site, "make_pages", lambda root: [page])
    with pytest.raises(docs_site.SiteError, match=r"page does not exist[\s\S]*index\.md"):
        docs_site.build(tmp_path)


def test_docstrings_that_name_a_wrong_parameter_end_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zensical")
    pytest.importorskip("mkdocstrings_handlers.python")
    (tmp_path / "wrong.py").write_text('def f(x: int) -> None:\n    """Do.\n\n    Args:\n        y: no.\n    """\n')
    page = docs_pages.Page("index.md", "docs/index.md", "# Start\n\n::: wrong.f\n")
    monkeypatch.setattr(docs_site, "make_pages", lambda root: [page])
    monkeypatch.setattr(docs_site, "ROOT", tmp_path)
    monkeypatch.setattr(docs_site, "command_names", lambda root: [])
    with pytest.raises(docs_site.SiteError, match=r"wrong\.py:5: .*'y'"):
        docs_site.build(tmp_path)
