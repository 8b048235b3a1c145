"""Watching the ranks of one launch: their lines, their results, and how it ended."""

import contextlib
import json
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labs.cluster import failures, guard
from labs.cluster.failures import Failure
from labs.cluster.rank import outcome_file, stack_file
from labs.cluster.stream import Lines
from labs.core.errors import RunFailed, UserError
from labs.core.paths import ROOT

OnLine = Callable[[int, str], None]
TICK_SECONDS = 0.1
SETTLE_SECONDS = 1.0  # after the first failure: the cause may report later than its echo
LEAVE_SECONDS = 20.0  # a rank that has its result may take so long to exit
STACK_SECONDS = 1.5


class Rank:
    """One rank's process, its log and what it reported."""

    def __init__(self, rank: int, folder: Path) -> None:
        self.rank = rank
        self.folder = folder
        self.log = folder / f"rank{rank}.log"
        self.process: Any = None
        self.lines: Lines | None = None
        self.last_alive = time.time()
        self.seen_dead: float | None = None
        self._outcome: dict[str, Any] | None = None

    def look(self) -> None:
        """Note whether the process still runs."""
        now = time.time()
        if self.process.poll() is None:
            self.last_alive = now
        elif self.seen_dead is None:
            self.seen_dead = now

    def outcome(self) -> dict[str, Any] | None:
        """What the rank reported, or None so far."""
        path = outcome_file(self.folder, self.rank)
        if self._outcome is None and path.exists():
            self._outcome = json.loads(path.read_text(encoding="utf-8"))
        return self._outcome

    def text(self) -> str:
        """The whole log."""
        return self.lines.text() if self.lines else ""

    def write(self, text: str) -> None:
        """Add to the log."""
        if self.lines:
            self.lines.write(text)

    def failure(self) -> Failure | None:
        """How this rank failed, or None: it runs, or it has its result and waits."""
        outcome = self.outcome()
        if outcome and not outcome["ok"]:
            return failures.from_error(self.rank, outcome["error"], outcome["time"])
        if self.seen_dead is None:
            return None
        code = self.process.returncode
        return failures.from_exit(self.rank, code, self.last_alive, self.seen_dead, outcome is not None)


class Supervisor:
    """Passes the ranks' lines on and decides how the launch ended."""

    def __init__(
        self, ranks: list[Rank], folder: Path, on_line: OnLine | None, release: Callable[[], None]
    ) -> None:
        self.ranks = ranks
        self.world_size = len(ranks)
        self.folder = folder
        self.on_line = on_line
        self.release = release  # lets the ranks that have their result exit
        self.selector = selectors.DefaultSelector()

    def watch(self, one: Rank, process: "subprocess.Popen[bytes]") -> None:
        """Take over a rank's process; its standard output is a pipe."""
        assert process.stdout is not None
        one.process = process
        one.lines = Lines(process.stdout, one.log)
        self.selector.register(process.stdout, selectors.EVENT_READ, one)

    def run(self, timeout: float) -> list[Any]:
        """The results by rank; RunFailed or UserError as `launch` says."""
        deadline = time.monotonic() + timeout
        while True:
            self._pump(TICK_SECONDS)
            if any(one.failure() for one in self.ranks):
                self._raise_first_failure()
            if all(one.outcome() for one in self.ranks):
                break
            if time.monotonic() > deadline:
                self._raise_timeout(timeout)
        self._let_go()
        return [(one.outcome() or {})["result"] for one in self.ranks]

    def close(self) -> None:
        """Close the logs."""
        self.selector.close()
        for one in self.ranks:
            if one.lines:
                one.lines.close()

    def _pump(self, seconds: float) -> None:
        """Wait at most so long, pass on what the ranks print, and look who still runs."""
        if not self.selector.get_map():
            time.sleep(seconds)
        for key, _ in self.selector.select(seconds):
            self._pass_on(key.data)
        for one in self.ranks:
            one.look()

    def _pass_on(self, one: Rank, rest: bool = False) -> None:
        assert one.lines is not None
        for line in one.lines.read():
            self._say(one.rank, line)
        if one.lines.ended and one.process.stdout in self.selector.get_map():
            self.selector.unregister(one.process.stdout)
        if rest and (line := one.lines.rest()):
            self._say(one.rank, line)

    def _say(self, rank: int, line: str) -> None:
        if self.on_line:
            self.on_line(rank, line)

    def _drain(self) -> None:
        for one in self.ranks:
            self._pass_on(one, rest=True)

    def _raise_first_failure(self) -> None:
        until = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < until and any(one.seen_dead is None for one in self.ranks):
            self._pump(TICK_SECONDS)
        self._drain()
        found = [failure for one in self.ranks if (failure := one.failure())]
        cause = failures.first(found)
        end_of_log = failures.tail(self.ranks[cause.rank].text())
        for failure in found:
            self.ranks[failure.rank].write(failure.traceback)
        if cause.user:
            raise UserError(cause.message)
        found.sort(key=lambda failure: failure.when)
        more = failures.details(cause, found, self.world_size, end_of_log, shown(self.folder))
        raise RunFailed(failures.headline(cause, self.world_size), more)

    def _raise_timeout(self, timeout: float) -> None:
        waiting = [one for one in self.ranks if not one.outcome()]
        stacks = self._stacks()
        self._drain()
        stopped = [one.rank for one in waiting if (now := guard.stat(one.process.pid)) and now.state in "Tt"]
        message = failures.unfinished([one.rank for one in waiting], self.world_size, timeout, stopped)
        raise RunFailed(message, f"{stacks}\n\nLogs: {shown(self.folder)}")

    def _stacks(self) -> str:
        """Every thread's stack of every rank, innermost call first."""
        for one in self.ranks:
            if stack_file(self.folder, one.rank).exists():  # else SIGUSR1 would end it
                with contextlib.suppress(ProcessLookupError):
                    one.process.send_signal(signal.SIGUSR1)
        until = time.monotonic() + STACK_SECONDS
        while time.monotonic() < until and not all(_stack(self.folder, one.rank) for one in self.ranks):
            self._pump(0.05)
        time.sleep(0.1)  # the dump is written piece by piece
        return "\n\n".join(self._stack_or_why(one) for one in self.ranks)

    def _stack_or_why(self, one: Rank) -> str:
        title = f"Rank {one.rank}{' (has its result and waits for the others)' if one.outcome() else ''}:\n"
        if found := _stack(self.folder, one.rank):
            return title + found
        state = guard.stat(one.process.pid)
        listens = stack_file(self.folder, one.rank).exists()
        why = "does not answer" if listens else "has not reached the rank's code"
        return f"{title}no stack: the process {why} (state {state.state if state else 'gone'})"

    def _let_go(self) -> None:
        """All have results: let them exit. What goes wrong from here on is said and loses no result."""
        self.release()
        until = time.monotonic() + LEAVE_SECONDS
        while time.monotonic() < until and any(one.seen_dead is None for one in self.ranks):
            self._pump(TICK_SECONDS)
        self._drain()
        for one in self.ranks:
            code = one.process.returncode
            if code is None:
                self._say(one.rank, f"(had its result but did not exit within {LEAVE_SECONDS:g} s; ended)")
            elif code:
                self._say(one.rank, f"(had its result, then ended with exit code {code})")


def _stack(folder: Path, rank: int) -> str:
    path = stack_file(folder, rank)
    return path.read_text(encoding="utf-8", errors="replace").rstrip() if path.exists() else ""


def shown(path: Path) -> str:
    """The path as a reader of the checkout types it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
