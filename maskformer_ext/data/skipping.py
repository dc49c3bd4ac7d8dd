"""``data.on_error=skip`` outside the training stream: leave out what cannot be read, and say so."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from maskformer_ext.data.types import Sample, SampleDataset
from maskformer_ext.errors import UserError, printable

_log = logging.getLogger(__name__)


def read_sample(dataset: SampleDataset, index: int, *, skip_errors: bool, report: bool = True) -> Sample | None:
    """Read a sample, or return None where its files are bad and ``skip_errors`` is set.

    Args:
        dataset: what to read from.
        index: of the sample.
        skip_errors: ``data.on_error`` is "skip".
        report: log the sentence that names what is wrong.

    Raises:
        UserError: that sentence, without ``skip_errors``.
    """
    try:
        return dataset[index]
    except UserError as error:
        if not skip_errors:
            raise
        if report:
            report_skipped([str(error)])
        return None


def report_skipped(problems: Sequence[str]) -> None:
    """Log one warning for each sentence about a file that is left out."""
    for problem in problems:
        _log.warning("skipped: %s", printable(problem))
