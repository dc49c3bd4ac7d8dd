"""The choices of a key are listed once; comments of the schema and help texts of commands name the same ones."""

from __future__ import annotations

import re
import tokenize

import pytest

from maskformer_ext import convert, evaluate, export, predict
from maskformer_ext.config import schema
from maskformer_ext.config.help import describe_keys
from maskformer_ext.config.load import iterate_fields
from maskformer_ext.config.tasks import TASKS
from maskformer_ext.config.values import CHOICES, LAYOUTS
from maskformer_ext.evaluation.submission import FORMATS

OPEN = {"data.name", "resume"}  # keys that take other values besides those that their comments list
UNLISTED = {"data.fit"}  # its comment says what they are; the values are names of keys


def _comments() -> dict[str, str]:
    """Return what ``--help`` shows of each key."""
    lines = describe_keys().splitlines()
    return {key: line for key, _ in iterate_fields() for line in lines if line.startswith(f"  {key}=")}


def _listed(comment: str) -> list[str]:
    """Return the words that bars separate; what is in brackets or after a colon explains them."""
    comment = re.sub(r"\([^)]*\)", "", comment)
    parts = [part.strip() for part in comment.split(" | ")]
    return [parts[0].split()[-1], *(re.split(r"[\s:]", part)[0] for part in parts[1:])]


def test_every_key_with_choices_exists() -> None:
    assert set(CHOICES) <= {key for key, _ in iterate_fields()}


@pytest.mark.parametrize("key", sorted(set(CHOICES) - UNLISTED))
def test_the_comment_names_the_choices(key: str) -> None:
    comment = _comments()[key]
    if " | " in comment:
        assert _listed(comment) == list(CHOICES[key])
    else:
        assert all(re.search(rf"\b{choice}\b", comment) for choice in CHOICES[key])


def test_comments_list_no_other_choices() -> None:
    assert {key for key, comment in _comments().items() if " | " in comment} <= {*CHOICES, *OPEN}


@pytest.mark.parametrize(
    ("command", "key", "choices"),
    [
        (predict, "task", TASKS),
        (evaluate, "format", tuple(FORMATS)),
        (evaluate, "split", ("val", "train")),
        (convert, "--to", LAYOUTS),
        (export, "outputs", ("classes", "scores")),
    ],
)
def test_help_texts_name_the_choices(command, key: str, choices: tuple[str, ...]) -> None:
    said = command._HELP[command._HELP.index(f"\n  {key}") :]
    assert all(re.search(rf"\b{choice}\b", said) for choice in choices)


def test_every_comment_of_the_schema_is_shown() -> None:
    with open(schema.__file__, "rb") as file:
        comments = [token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT]
    shown = describe_keys()
    assert len(comments) > 50 and not [comment for comment in comments if comment.removeprefix("# ") not in shown]
