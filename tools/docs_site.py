"""Build the documentation as a site: ``python tools/docs_site.py``, which ``make docs`` runs.

Usage: python tools/docs_site.py [--to FOLDER] [--serve]

The pages are the Markdown files of ``docs/``, which GitHub shows as they are. This tool copies them, makes what
follows from the code (``docs_pages.py``), and lets Zensical make HTML of it. A warning is an error. Neither the build
nor the pages need a network. What is written:

  FOLDER/docs-source   the pages as Zensical reads them
  FOLDER/site          the site; index.html can be opened without a server

Pages in FOLDER/gallery are part of the site: ``docs_gallery.py --local`` writes them, of images that may not be in the
repository. ``--serve`` shows the site at http://localhost:8000 and follows changes. All that is needed is ``pip install
'maskformer-ext[docs]'``.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from docs_pages import Page, SiteError, command_names, make_pages

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
_THEME = DOCS / "site"  # configuration, style sheet, script
_WATCHED = ("docs", "examples", "maskformer_ext", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "csrc/README.md")


def assemble(folder: Path, gallery: Path | None = None) -> Path:
    """Write what Zensical reads, and return its configuration file. Only files that changed are written.

    Args:
        folder: for the configuration and, below ``pages``, for the pages.
        gallery: a folder with pages and pictures of this machine.
    """
    pages = make_pages(ROOT)
    local = sorted(gallery.iterdir()) if gallery is not None and gallery.is_dir() else []
    pages += [Page(f"gallery/local/{path.name}", "", path.read_text()) for path in local if path.suffix == ".md"]
    files = {f"pages/{page.path}": page.text.encode() for page in pages}
    files |= {f"pages/gallery/local/{path.name}": path.read_bytes() for path in local if path.suffix == ".jpg"}
    for source in DOCS.rglob("*"):
        if source.is_file() and source.suffix != ".md" and _THEME not in source.parents:
            files[f"pages/{source.relative_to(DOCS)}"] = source.read_bytes()
    for source in _THEME.iterdir():
        if source.name != "mkdocs.yml":
            files[f"pages/assets/{source.name}"] = source.read_bytes()
    config = make_config((_THEME / "mkdocs.yml").read_text(encoding="utf-8"), pages)
    files["mkdocs.yml"] = config.encode()
    for name, content in files.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    for old in (folder / "pages").rglob("*"):
        if old.is_file() and str(old.relative_to(folder)) not in files:
            old.unlink()
    return folder / "mkdocs.yml"


def make_config(template: str, pages: list[Page]) -> str:
    """Fill in the parts of the navigation that follow from the code, and the path to the sources.

    Args:
        template: the text of ``docs/site/mkdocs.yml``. The line ``- COMMANDS`` stands for a page per command.
            The others in capitals stand for programs, kernels, galleries of this machine, and what no entry names.
            An entry with the comment "where it is there" is left out where its page is missing.
        pages: all pages.
    """
    paths = [page.path for page in pages]
    optional = re.compile(r"^ *- .*?([\w/-]+\.md)  # where it is there\n", re.MULTILINE)
    template = optional.sub(lambda match: match[0] if match[1] in paths else "", template)
    named = set(re.findall(r"[\w/-]+\.md", template))
    parts = {
        "COMMANDS": [f"{name}: commands/{name}.md" for name in command_names(ROOT)],
        "EXAMPLES": sorted(path for path in paths if path.startswith("examples/") and path not in named),
        "GALLERIES": [path for path in paths if path.startswith("gallery/local/")],
        "KERNELS": sorted(path for path in paths if path.startswith("kernels/") and path not in named),
        "OTHERS": sorted(path for path in paths if "/" not in path and path not in named),
    }

    def filled(match: re.Match[str]) -> str:
        return "".join(f"{match[1]}- {entry}\n" for entry in parts[match[2]])

    return re.sub(rf"^( *)- ({'|'.join(parts)})\n", filled, template, flags=re.M).replace("SOURCES", str(ROOT))


def build(folder: Path) -> Path:
    """Build the site below a folder and return where it lies.

    Raises:
        SiteError: if Zensical warns, or a page has a dead link or needs something from the network.
    """
    config = assemble(folder / "docs-source", folder / "gallery")
    site = folder / "site"
    shutil.rmtree(config.parent / "site", ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", str(config)]
    done = subprocess.run(command, cwd=config.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0 or "griffe: " in done.stdout:  # griffe reads docstrings; its warnings do not end the build
        raise SiteError(f"zensical build --strict ended with {done.returncode}:\n{_plain(done.stdout)}")
    if problems := list(find_problems(config.parent / "site")):
        raise SiteError("\n".join(problems))
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(config.parent / "site", site)
    return site


def _plain(text: str) -> str:
    """Return what a terminal would show, without colours, up to a traceback."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).partition("Traceback (most recent call last)")[0].strip()


class _Links(HTMLParser):
    """Collects what a page has and what it asks for: ids, links, and files that a browser loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and values.get("rel") not in ("canonical", "next", "prev", "alternate"):
            self.loaded.append(values.get("href", ""))
        elif "src" in values:
            self.loaded.append(values["src"])


def find_problems(site: Path) -> Iterator[str]:
    """Yield a sentence per dead link, and per file that a page would load from elsewhere."""
    pages = {path: _Links(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        if path.name == "404.html":
            continue
        name = path.relative_to(site)
        for target in page.loaded:
            if urlsplit(target).netloc:
                yield f"{name} loads {target}: every file of the site must lie beside it"
        for target in [*page.links, *page.loaded]:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or target.startswith("data:"):
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = there / "index.html" if there.is_dir() else there
            if not there.exists():
                yield f"{name}: the link {target} leads nowhere"
            elif parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].ids | {"__top"}:
                yield f"{name}: {target} has no such heading"
    for path in sorted(site.rglob("*.css")):
        if re.search(r"(url\(|@import )[\"']?(https?:)?//", path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)} loads something from the network"


def serve(folder: Path) -> None:
    """Show the site at http://localhost:8000 until Ctrl-C. Pages follow their sources."""
    config = assemble(folder / "docs-source", folder / "gallery")
    command = [sys.executable, "-m", "zensical", "serve", "--config-file", str(config)]
    server = subprocess.Popen(command, cwd=config.parent)
    try:
        seen = _newest()
        while server.poll() is None:
            time.sleep(1)
            if (now := _newest()) != seen:
                seen = now
                assemble(folder / "docs-source", folder / "gallery")
    except KeyboardInterrupt:
        pass
    finally:
        server.terminate()
        server.wait()


def _newest() -> float:
    """Return when the newest source was written."""
    places = [ROOT / place for place in _WATCHED]
    files = [path for place in places for path in ([place] if place.is_file() else place.rglob("*"))]
    return max(path.stat().st_mtime for path in files if path.suffix in {".md", ".py", ".css", ".js", ".yml", ".svg"})


def main() -> int:
    """Build or serve; return 1 after a problem, told without a traceback."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--to", type=Path, default=ROOT / "build", help="where docs-source and site are written")
    parser.add_argument("--serve", action="store_true", help="show the site at http://localhost:8000")
    arguments = parser.parse_args()
    try:
        import zensical  # noqa: F401
    except ModuleNotFoundError:
        print("error: this needs the package zensical: pip install 'maskformer-ext[docs]'", file=sys.stderr)
        return 2
    if arguments.serve:
        serve(arguments.to)
        return 0
    started = time.monotonic()
    try:
        site = build(arguments.to)
    except SiteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    pages = sum(1 for _ in site.rglob("*.html"))
    print(f"{pages} pages in {time.monotonic() - started:.0f} s: {site / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
