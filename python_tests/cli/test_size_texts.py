"""Sizes on the command line have one parser."""

from __future__ import annotations

import pytest

from maskformer_ext.cli.sizes import parse_size
from maskformer_ext.errors import UserError


@pytest.mark.parametrize("text", ["480x640", "480,640", "[480,640]", "(480, 640)", " 480 X 640 "])
def test_every_form_is_read(text: str) -> None:
    assert parse_size(text) == (480, 640)


@pytest.mark.parametrize("text", ["", "480", "480x", "0x640", "-1x5", "1.5x2", "4x5x6", "axb", "²x2"])
def test_anything_else_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(UserError, match=r"tile must be height and width in pixels, as in tile=512x768 or tile=512,768"):
        parse_size(text, "tile")
