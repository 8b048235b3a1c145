"""Signals that end a command leave by the same way as Ctrl-C: what was started is ended first."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import NoReturn


class Signalled(KeyboardInterrupt):
    """A signal that was sent to end this process."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextlib.contextmanager
def as_interrupts() -> Iterator[None]:
    """SIGTERM (`kill`, `timeout`, the end of a job) and SIGHUP (a closed terminal) raise Signalled.

    Only where nobody else handles them: what `nohup` ignores stays ignored.
    """
    here = threading.current_thread() is threading.main_thread()  # only this thread may set handlers
    ours = [
        one for one in (signal.SIGTERM, signal.SIGHUP) if here and signal.getsignal(one) == signal.SIG_DFL
    ]
    for one in ours:
        signal.signal(one, _raise)
    try:
        yield
    finally:
        for one in ours:
            signal.signal(one, signal.SIG_DFL)


def _raise(number: int, frame: object) -> NoReturn:
    raise Signalled(number)
