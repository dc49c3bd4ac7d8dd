"""The one exception that means: the user can fix this."""

from __future__ import annotations


class UserError(Exception):
    """Report a problem in data, configuration or a checkpoint in one sentence that says what to do.

    Commands print the sentence alone, without a traceback, and exit with status 2.
    """
