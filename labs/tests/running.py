"""Helpers of the tests that start real processes: who is still there?"""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from labs.cluster.guard import alive, pids, stat
from labs.core.paths import ROOT

PATIENCE = 20.0
_counter = itertools.count()


def new_token() -> str:
    """A number that no other command line holds; `sleep` takes it, and so does a run's name."""
    return f"7{os.getpid()}.{time.time_ns() % 10**9:09d}{next(_counter)}"


def with_token(token: str) -> list[int]:
    """The live processes whose command line holds the token."""
    found = []
    for pid in pids():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if token.encode() in command and alive(stat(pid)):
            found.append(pid)
    return found


def is_alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    return alive(stat(pid))


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def start_python(code: str, *arguments: str, runs: Path | None = None) -> "subprocess.Popen[str]":
    """A Python process of its own, as a shell or a notebook server would start it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    if runs:
        environment["LABS_RUNS"] = str(runs)
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )


def read_until(process: "subprocess.Popen[str]", text: str, times: int = 1) -> list[str]:
    """Read the process's lines until `text` came so many times; AssertionError if it ends before."""
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if sum(text in one for one in lines) == times:
            return lines
    raise AssertionError(f"ended before {text!r} came {times} times:\n" + "\n".join(lines))


def clean_up(token: str, process: "subprocess.Popen[str] | None" = None) -> None:
    """For `finally`: a failing test must not leave what it looked for."""
    for pid in with_token(token):
        os.kill(pid, signal.SIGKILL)
    if process is not None:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
