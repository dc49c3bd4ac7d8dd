"""The pages of the site: documents with their links rewritten, and what is made of the code.

A document says by a comment on a line of its own where something of the code belongs. GitHub does not show it.

  <!-- site: help NAME -->   what ``--help`` of a command prints
  <!-- site: help -->        the list of commands
  <!-- site: speed -->       README's table of figures, as bars
  <!-- site: meta KEYS -->   in the first line: the page's settings, for instance ``hide: [toc]``

A sample of Python with ``title="examples/NAME.py"`` must be a part of that program, whatever its indentation.
"""

from __future__ import annotations

import ast
import os
import posixpath
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from html import escape
from pathlib import Path

# Files outside docs/ that are pages, too, and their place in the site.
_OUTSIDE = {
    "README.md": "index.md",  # links to it lead to the first page; its text is not copied
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "csrc/README.md": "native-code.md",
    "LICENSE": "license.md",
}
_FENCE = re.compile(r"^( *```.*?^ *```)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)")
_SITE = re.compile(r"^<!-- site: (\w+) ?(.*?) -->$", re.MULTILINE)


class SiteError(Exception):
    """The site cannot be built; the text says why."""


@dataclass(frozen=True)
class Page:
    """A page of the site.

    Attributes:
        path: below the site's pages, with ``.md``.
        source: the file that it is made of, as a path from the project's root.
        text: Markdown.
    """

    path: str
    source: str
    text: str


def make_pages(root: Path) -> list[Page]:
    """Return all pages, in the order of their paths.

    Raises:
        SiteError: if a sample of Python is not part of the program that its title names.
    """
    documents = [path for path in (root / "docs").rglob("*.md") if "site" not in path.relative_to(root).parts[1:2]]
    commands = command_names(root)
    places = {
        str(path.relative_to(root)): str(path.relative_to(root / "docs"))
        for path in documents
        if path.parent.name != "commands" or path.stem in (*commands, "README")
    }
    places |= _OUTSIDE | {"examples/README.md": "examples/README.md"}
    examples = sorted((root / "examples").glob("*.py"))
    places |= {f"examples/{path.name}": f"examples/{path.stem}.md" for path in examples}
    for name in commands:
        places.setdefault(f"docs/commands/{name}.md", f"commands/{name}.md")
    pages = []
    for source, place in places.items():
        if source == "README.md":
            continue
        text = _read(root, source)
        pages.append(Page(place, source, rewrite_links(_fill_in(root, text, source), source, places)))
    return sorted(pages, key=lambda page: page.path)


def command_names(root: Path) -> list[str]:
    """Return the commands that ``maskformer_ext`` lists, read without running it."""
    tree = ast.parse((root / "maskformer_ext" / "__main__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "COMMANDS":
            return list(ast.literal_eval(node.value))
    raise SiteError("maskformer_ext/__main__.py has no COMMANDS")


def _read(root: Path, source: str) -> str:
    """Return the Markdown of a file: of a document its text, of a program a page that shows it."""
    path = root / source
    if source == "LICENSE":
        return f"# Licence\n\n```text\n{path.read_text(encoding='utf-8')}\n```\n"
    if path.suffix == ".py":
        text = path.read_text(encoding="utf-8")
        words = ast.get_docstring(ast.parse(text)) or ""
        code = text.partition('"""')[2].partition('"""')[2].strip("\n")
        return f'# `{path.name}`\n\n{_as_markdown(words)}\n\n```python title="{source}"\n{code}\n```\n'
    if not path.exists():  # a command without a page of its own
        return f"# {path.stem}\n\n<!-- site: help {path.stem} -->\n"
    return path.read_text(encoding="utf-8")


def _as_markdown(docstring: str) -> str:
    return docstring.replace("``", "`")


def _fill_in(root: Path, text: str, source: str) -> str:
    """Put what comments ask for in their place, and check samples."""
    check_samples(root, text, source)
    meta = re.match(r"<!-- site: meta (.*) -->\n", text)
    if meta:
        text = "---\n" + meta[1].replace("; ", "\n") + "\n---\n" + text[meta.end() :]

    def made(match: re.Match[str]) -> str:
        word, rest = match[1], match[2]
        if word == "help":
            return f"```text\n{read_help(root, rest)}\n```"
        if word == "speed":
            return speed_bars((root / "README.md").read_text(encoding="utf-8"))
        raise SiteError(f"{source}: nothing is known as {match[0]}")

    return _SITE.sub(made, text)


def read_help(root: Path, command: str) -> str:
    """Return what ``--help`` of a command prints; of none, the list of commands."""
    called = [sys.executable, "-m", "maskformer_ext", *command.split(), "--help"]
    environment = os.environ | {"PYTHONPATH": str(root), "COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(called, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SiteError(f"{' '.join(called[1:])} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip("\n")


def check_samples(root: Path, text: str, source: str) -> None:
    """Check that a sample whose title names a program is a part of it, word for word.

    Raises:
        SiteError: if it is not.
    """
    for name, sample in re.findall(r"^```python title=\"(examples/\w+\.py)\"\n(.*?)^```", text, re.M | re.S):
        program = (root / name).read_text(encoding="utf-8") if (root / name).is_file() else ""
        shown = sample.strip("\n")
        if not any(textwrap.indent(shown, " " * depth) in program for depth in (0, 4, 8)):
            first = shown.partition("\n")[0]
            raise SiteError(f"{source}: the sample that begins with {first!r} is not in {name}")


def rewrite_links(text: str, source: str, places: dict[str, str]) -> str:
    """Turn relative links of a file into links of the site. A link to what the site lacks becomes plain text.

    Args:
        text: Markdown.
        source: the file, as a path from the root.
        places: for each file that is a page its place in the site.
    """
    here = posixpath.dirname(places[source])

    def rewritten(match: re.Match[str]) -> str:
        name, separator, anchor = match["target"].partition("#")
        if re.match(r"[a-z]+:", match["target"]) or not name:
            return match[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(source), name))
        if there in places:
            target = places[there]
        elif f"{there}/README.md" in places:
            target = places[f"{there}/README.md"]
        elif there.startswith("docs/") and not there.endswith(".md"):
            target = there.removeprefix("docs/")
        else:
            return match["text"]
        separator, anchor = ("", "") if there == "README.md" else (separator, anchor)
        return f"{match['image']}[{match['text']}]({posixpath.relpath(target, here or '.')}{separator}{anchor})"

    parts = _FENCE.split(text)
    return "".join(part if number % 2 else _LINK.sub(rewritten, part) for number, part in enumerate(parts))


def speed_bars(readme: str) -> str:
    """Return README's table of figures as bars, one per row, as long as the row's ratio.

    Args:
        readme: its text; the table stands between two comments.
    """
    table = readme.partition("<!-- benchmarks.tables: begin -->")[2].partition("<!-- benchmarks.tables: end -->")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]  # above stands the processor's name
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    ratios = [float(row[3].removesuffix("x")) for row in rows]
    lines = ['<div class="bars" role="table" aria-label="How many times faster than the peer">']
    for (work, ours, peer, *_), ratio in zip(rows, ratios, strict=True):
        name = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(work))
        width = f"{100 * ratio / max(ratios):.1f}"
        lines.append(
            f'<div class="bar" role="row"><span class="work" role="cell">{name}</span>'
            f'<span class="track" role="cell"><span class="fill" style="width:{width}%"></span>'
            f'<b>{ratio:.3g}x</b></span><span class="times" role="cell">{escape(ours)}, was {escape(peer)}</span></div>'
        )
    return "\n".join([*lines, "</div>"])
