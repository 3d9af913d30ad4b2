"""What a failure leaves in memory: the variables of every function that its error went through."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from celery.exceptions import Retry


def let_go(error: object) -> None:
    """Empty the functions that an error went through, and those of the errors behind it.

    To be called when everybody has seen the error. Error and functions name each other, so what
    they hold would stay until the collector's next look at everything, which is dozens of failures
    away: of a job that fails with 1 MB of output some 100 MB are kept that way. Celery clears the
    functions of the error itself; but before Python 3.13 a copy of the variables that somebody has
    asked for (billiard does, for its report) outlives that until it is asked for again.
    """
    for each in errors_of(error):
        traceback.clear_frames(each.__traceback__)
        link = each.__traceback__
        while link is not None:
            _ = link.tb_frame.f_locals  # the copy is made anew, of nothing
            link = link.tb_next


def errors_of(error: object) -> Iterator[BaseException]:
    """Give an error and all that led to it, each once."""
    seen: set[int] = set()
    ahead = [error]
    while ahead:
        each = ahead.pop()
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        ahead += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            ahead += each.exceptions
        if isinstance(each, Retry):
            ahead.append(each.exc)
