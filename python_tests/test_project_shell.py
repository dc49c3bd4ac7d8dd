"""What stands around the code says the same as the code: workflows, pre-commit, the citation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import maskformer_ext

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()


def _load(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text())


def _commands(path: Path) -> list[str]:
    """Return what the steps of a workflow run."""
    return [step["run"] for job in _load(path)["jobs"].values() for step in job["steps"] if "run" in step]


def _lint_commands() -> list[str]:
    """Return the lines of `make lint`, with the tools' folder filled in and without the variables for files."""
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe
    lines = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    return [re.sub(r"( \.| \$\(\w+\))$", "", line) for line in lines]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_reads_only_and_ends(path: Path) -> None:
    workflow = _load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120
        for step in job["steps"]:
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/none@v0"))
            assert "${{" not in step.get("run", ""), "an expression in a script runs what somebody typed"


def test_workflows_call_the_projects_own_commands() -> None:
    assert _commands(ROOT / ".github" / "workflows" / "ci.yml") == ["bash .ci/run"]
    assert (ROOT / ".ci" / "run").is_file()
    called = {target for path in WORKFLOWS for run in _commands(path) for target in re.findall(r"make ([a-z-]+)", run)}
    assert called == {"bench", "wheel"}
    assert all(re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) for target in called)


def test_ci_runs_the_oldest_and_the_newest_python() -> None:
    pythons = _load(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["run"]["strategy"]["matrix"]["python"]
    project = (ROOT / "pyproject.toml").read_text()
    known = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    assert (pythons[0], pythons[-1]) == (known[0], known[-1])
    assert f'requires-python = ">={known[0]}"' in project


def test_pre_commit_runs_what_make_lint_runs() -> None:
    hooks = [hook for repo in _load(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    tools = [hook["entry"] for hook in hooks if hook["entry"].startswith(".venv/")]
    assert [entry.removesuffix(" --force-exclude") for entry in tools] == _lint_commands()


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_form_has_fields_of_their_own_names(path: Path) -> None:
    if path.stem == "config":
        assert set(_load(path)) <= {"blank_issues_enabled", "contact_links"}
        return
    form = _load(path)
    names = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert form["name"] and form["description"] and len(set(names)) == len(names) > 0


def test_citation_names_this_version() -> None:
    citation = _load(ROOT / "CITATION.cff")
    assert citation["version"] == maskformer_ext.__version__
    assert f'version = "{citation["version"]}"' in (ROOT / "pyproject.toml").read_text()
    assert citation["references"][0]["url"] == "https://arxiv.org/abs/2107.06278"
