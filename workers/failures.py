"""What a failure leaves in memory: the variables of every function that its error went through."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import FrameType

from celery.exceptions import Retry

# Whether one of these has come to its end or only waits for its next turn, a frame does not tell;
# to empty it would end it.
MAY_GO_ON = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def let_go(error: object) -> None:
    """Empty the functions that an error went through, and those of the errors behind it.

    To be called when everybody has seen the error, and not where it is being handled. Error and
    functions name each other, so what they hold would stay until the collector's next look at
    everything, which is dozens of failures away: of a job that fails with 1 MB of output some
    100 MB are kept that way. Celery clears the functions of the error itself; but before Python
    3.13 a copy of the variables that somebody has asked for (billiard does, for its report)
    outlives that until it is asked for again.
    """
    for each in errors_of(error):
        link = each.__traceback__
        while link is not None:
            empty(link.tb_frame)
            link = link.tb_next


def empty(frame: FrameType) -> None:
    if frame.f_code.co_flags & MAY_GO_ON:
        return
    try:
        frame.clear()
    except RuntimeError:
        return  # it still runs
    _ = frame.f_locals  # the copy is made anew, of nothing


def errors_of(error: object) -> Iterator[BaseException]:
    """Give an error and all that led to it, each once."""
    seen: set[int] = set()
    ahead = [error]
    while ahead:
        each = ahead.pop()
        # By its type: a mock says of itself that it is whatever it stands for.
        if not issubclass(type(each), BaseException) or id(each) in seen:
            continue
        assert isinstance(each, BaseException)
        seen.add(id(each))
        yield each
        ahead += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            ahead += each.exceptions
        if isinstance(each, Retry):
            ahead.append(each.exc)
