"""The one parser of ``key=value``: what it takes, and the sentence for everything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskformer_ext.cli.arguments import (
    boolean,
    choice,
    new_file,
    number,
    required,
    size,
    split_arguments,
    split_places,
    whole_number,
)
from maskformer_ext.errors import UserError

OWN = {"input": None, "batch": "1"}


def test_keys_of_the_command_are_separated_from_those_of_the_configuration() -> None:
    values, others = split_arguments(["batch=2", "inference.tile=512", "input=a=b"], OWN)
    assert values == {"input": "a=b", "batch": "2"} and others == ["inference.tile=512"]
    assert OWN == {"input": None, "batch": "1"}


@pytest.mark.parametrize(
    ("arguments", "sections", "message"),
    [
        (["batch"], None, "'batch' is not of the form key=value, for instance input=..."),
        (["=3"], None, "'=3' is not of the form key=value"),
        (["batsch=3"], None, "unknown key 'batsch': did you mean 'batch'?"),
        (["what=3"], None, "unknown key 'what': the keys are input, batch"),
        (["data.root=3"], (), "unknown key 'data.root': the keys are input, batch"),
        (["model.x=3"], ("data",), "unknown key 'model.x': the keys are input, batch, and those below data"),
    ],
)
def test_unknown_arguments_are_named(arguments: list[str], sections: tuple[str, ...] | None, message: str) -> None:
    with pytest.raises(UserError) as caught:
        split_arguments(arguments, OWN, sections=sections)
    assert str(caught.value).startswith(message)


def test_places_are_separated_from_keys() -> None:
    arguments = ["in.pkl", "--to", "hf", "a/b=c", "classes=x", "--overwrite=true", "--last"]
    assert split_places(arguments) == (["in.pkl", "a/b=c"], ["to=hf", "classes=x", "overwrite=true", "last="])


def test_values_are_read() -> None:
    values = {"yes": "true", "no": "false", "count": "0012", "share": "2.5e-1", "word": "all", "name": "x"}
    assert boolean(values, "yes") is True and boolean(values, "no") is False
    assert whole_number(values, "count", least=12) == 12
    assert number(values, "share", 0, 1) == 0.25
    assert choice(values, "word", ("none", "all")) == "all"
    assert required(values, "name", "a name") == "x"


@pytest.mark.parametrize("text", [None, "", "yes", "True", "1"])
def test_only_true_and_false_are_taken_for_booleans(text: str | None) -> None:
    with pytest.raises(UserError, match=f"film must be true or false, got {text!r}"):
        boolean({"film": text}, "film")


@pytest.mark.parametrize("text", [None, "", "-1", "+3", "1.0", "1e3", "many", "0", "٣", "²", "9" * 19])
def test_only_whole_numbers_from_the_least_are_taken(text: str | None) -> None:
    with pytest.raises(UserError) as caught:
        whole_number({"batch": text}, "batch", "a number of images", least=1)
    assert str(caught.value) == f"batch must be a number of images, at least 1, got {text!r}"


@pytest.mark.parametrize("text", [None, "", "half", "-0.1", "1.1", "nan", "inf"])
def test_only_numbers_in_the_range_are_taken(text: str | None) -> None:
    with pytest.raises(UserError, match=f"min_score must be a number from 0 to 1, got {text!r}"):
        number({"min_score": text}, "min_score", 0, 1)


def test_a_choice_names_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        choice({"split": "vall"}, "split", ("train", "val"))
    assert str(caught.value) == "split must be one of train, val, got 'vall' (did you mean val?)"
    with pytest.raises(UserError, match="--to must be one of native, hf, got ''"):
        choice({"to": None}, "to", ("native", "hf"), name="--to")


@pytest.mark.parametrize("text", ["480x640", "480,640", "[480,640]", "(480, 640)", " 480 X 640 "])
def test_every_form_of_a_size_is_read(text: str) -> None:
    assert size({"size": text}, "size") == (480, 640)


@pytest.mark.parametrize("text", ["", "480", "480x", "0x640", "-1x5", "1.5x2", "4x5x6", "axb", "²x2"])
def test_anything_else_is_refused_with_the_forms_of_a_size(text: str) -> None:
    with pytest.raises(UserError, match=r"tile must be height and width in pixels, as in tile=512x768 or tile=512,768"):
        size({"tile": text}, "tile")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="input= is missing: give an image"):
        required(OWN, "input", "an image")
    assert new_file({"output": f"{tmp_path}/a.json"}, "output") == tmp_path / "a.json"
    with pytest.raises(UserError, match=f"output={tmp_path}/b/a.json: the folder {tmp_path}/b does not exist"):
        new_file({"output": f"{tmp_path}/b/a.json"}, "output")
