"""A Python module run to its end in a guarded process of its own: how both load clients are started."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from labs.cluster.processes import guarded
from labs.core.errors import RunFailed
from labs.core.paths import ROOT


def run_module(
    module: str,
    arguments: Sequence[str],
    *,
    what: str,
    timeout_s: float,
    say: Callable[[str], None] | None = None,
    env: Mapping[str, str | None] | None = None,
) -> None:
    """Run `python -m module arguments` and pass on each line it prints.

    Everything happens in the calling thread, so `say` may print into a notebook's cell. RunFailed with the
    end of its standard error if it fails or takes longer than `timeout_s` seconds; the process never
    outlives this call.
    """
    deadline = time.monotonic() + timeout_s
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
    with tempfile.TemporaryFile() as log, guarded(what.replace(" ", "-")) as guard:
        child = guard.spawn(
            [sys.executable, "-m", module, *arguments],
            env={"PYTHONPATH": path, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=log,
        )
        assert child.stdout is not None
        try:
            _pass_on(child.stdout, deadline, say)
            code = child.wait(max(0.1, deadline - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            raise RunFailed(f"the {what} did not finish within {timeout_s:g} s", _tail(log)) from None
        if code < 0:
            raise RunFailed(f"the {what} was killed by {signal.Signals(-code).name}", _tail(log))
        if code:
            tail = _tail(log).strip()
            raise RunFailed(f"the {what} failed: {_reason(tail) or f'exit code {code}'}", tail)


def _pass_on(stdout: IO[bytes], deadline: float, say: Callable[[str], None] | None) -> None:
    """Give `say` the lines of `stdout` until its end; TimeoutError at the deadline."""
    rest = b""
    while True:
        if not select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        data = os.read(stdout.fileno(), 65536)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if say:
                say(line.decode(errors="replace"))
        if not data:
            return


def _reason(text: str) -> str:
    """The exception of the last traceback in `text` (libraries may print more at exit), or the last line."""
    _, found, trace = text.rpartition("Traceback (most recent call last):\n")
    lines = trace.splitlines()
    named = (line for line in lines if not line.startswith(" "))
    return next(named, "") if found else (lines[-1] if lines else "")


def _tail(log: IO[bytes], size: int = 8000) -> str:
    log.seek(max(0, log.seek(0, os.SEEK_END) - size))
    return log.read().decode(errors="replace")
