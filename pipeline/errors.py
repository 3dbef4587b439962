"""Errors a user can cause: one sentence saying what, why and how to fix it; exit code 2, no traceback."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

EXIT_OK = 0
EXIT_USER = 2
EXIT_STOPPED = 75  # stopped on request; the same command continues


class UserError(Exception):
    """A mistake in what the user gave: `what` is wrong, `why`, and what to do (`fix`)."""

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        super().__init__(what, why, fix)

    def __str__(self) -> str:
        sentence = f"{self.what}: {self.why}" if self.why else self.what
        return f"{sentence}. {self.fix}" if self.fix else f"{sentence}."


def disk_is_full(error: BaseException) -> bool:
    """True where no file is at fault but the place for the results: the run must stop, nothing is to be quarantined."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Returns the choice that `name` is most likely a misspelling of, or None."""
    found = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return found[0] if found else None
