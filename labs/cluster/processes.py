"""Child processes that never outlive the run that started them.

    with guarded("server") as guard:
        child = guard.spawn([sys.executable, "-m", "something"], log=Path("runs/something.log"))
        ...

When the block ends, whether by its end, by an exception or by Ctrl-C, every process of the run is gone: the
children, what they started, and daemons that left for a session of their own. If this process is killed,
even with SIGKILL, a side process (`labs.cluster.guard`) does the same. Linux only.

The children's temporary files (TMPDIR) lie in a folder that goes with the run, and so does the shared memory
that killed ones leave in /dev/shm. vLLM leaves sockets and files in TMPDIR even when it ends well.
"""

import contextlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from labs.cluster import guard as side
from labs.cluster import scratch
from labs.core.errors import RunFailed, UserError

GRACE_SECONDS = 3.0
_counter = itertools.count()


class Leftover(BaseModel):
    """A process of a run whose owner is dead."""

    model_config = ConfigDict(frozen=True)

    pid: int
    run: str
    command: str


@contextlib.contextmanager
def guarded(name: str = "run", grace: float = GRACE_SECONDS) -> Iterator["Guard"]:
    """A `Guard` whose processes are ended with the block: SIGTERM, `grace` seconds, then SIGKILL.

    RunFailed if a process survives even that (one stuck in a driver call does).
    """
    guard = Guard(name, grace)
    try:
        yield guard
    finally:
        guard.kill_all()


class Guard:
    """Starts processes and ends them; see `guarded`. May be used from any thread."""

    def __init__(self, name: str, grace: float = GRACE_SECONDS) -> None:
        if sys.platform != "linux":
            raise UserError(
                f"the workbook starts ranks and servers on Linux only; this is {sys.platform}; "
                "use the dev container (.devcontainer/) or WSL 2"
            )
        self.run = _run_id(name)
        self.grace = grace
        self._side: subprocess.Popen[bytes] | None = None
        self._folder = ""  # the run's temporary files
        self._older: set[int] = set()  # what was in /dev/shm before
        self._children: list[subprocess.Popen[Any]] = []

    def spawn(
        self,
        argv: Sequence[str],
        env: Mapping[str, str | None] | None = None,
        log: Path | None = None,
        **popen: Any,
    ) -> "subprocess.Popen[Any]":
        """Start a process of the run in a session of its own.

        `env` is laid over this process's environment; a value of None removes the variable. `log` takes
        stdout and stderr (appended). The rest goes to `subprocess.Popen`; standard input is /dev/null unless
        given. UserError if the program is not there.
        """
        self._watch()
        popen.setdefault("stdin", subprocess.DEVNULL)
        with contextlib.ExitStack() as stack:
            if log is not None:
                log.parent.mkdir(parents=True, exist_ok=True)
                popen["stdout"] = stack.enter_context(open(log, "ab"))
                popen["stderr"] = subprocess.STDOUT
            try:
                child: subprocess.Popen[Any] = subprocess.Popen(
                    list(argv), env=self._environment(env or {}), start_new_session=True, **popen
                )
            except FileNotFoundError as error:
                raise UserError(f"cannot start {argv[0]}: {error.strerror}: {error.filename}") from None
        self._children.append(child)
        self._tell(child.pid)
        return child

    def pids(self) -> list[int]:
        """The live processes of the run, as far as environment, parents and sessions show them now."""
        tracker = side.Tracker(self.run, os.getpid())
        for child in self._children:
            if child.poll() is None:
                tracker.add(child.pid)
        return sorted(entry.pid for entry in tracker.members())

    def kill_all(self) -> None:
        """End every process of the run and see that they are gone. The guard may be used again afterwards."""
        interrupted: BaseException | None = None
        while self._side is not None:
            try:  # Ctrl-C while the side process cleans up: let it finish, then pass the interrupt on
                self._finish(self._side)
                self._side = None
            except KeyboardInterrupt as error:
                interrupted = error
        self._children.clear()
        if interrupted:
            raise interrupted

    def _finish(self, watcher: "subprocess.Popen[bytes]") -> None:
        assert watcher.stdin is not None
        with contextlib.suppress(OSError):
            watcher.stdin.close()
        try:
            survived = watcher.wait(self.grace + side.KILL_SECONDS + 10)
        except subprocess.TimeoutExpired:
            watcher.kill()
            survived = watcher.wait()
        if survived:  # also when the side process itself was killed: do its work here
            tracker = side.Tracker(self.run, os.getpid())
            tracker.shared.older = self._older
            for child in self._children:
                if child.poll() is None:
                    tracker.add(child.pid)
            stuck = side.end(tracker, self.grace)
            shutil.rmtree(self._folder, ignore_errors=True)
            if stuck:
                self._side = None
                raise RunFailed(f"processes of the run {self.run} cannot be ended: {stuck}; see `ps -fp PID`")
        for child in self._children:
            child.wait(5)  # reads the exit code, so that no zombie stays
            if child.stdout:
                child.stdout.close()

    def _watch(self) -> None:
        """Start the side process, before the first child, or again if somebody killed it."""
        if self._side is not None and self._side.poll() is None:
            return
        if not os.path.isdir(self._folder):
            self._folder = scratch.new_folder()
            self._older = {inode for _, inode in side.shm_files()}
        self._side = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                os.path.abspath(side.__file__),
                self.run,
                str(os.getpid()),
                str(self.grace),
                self._folder,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        self._tell(side.OLDER.decode(), *self._older)
        for child in self._children:
            self._tell(child.pid)

    def _tell(self, *words: object) -> None:
        assert self._side is not None
        assert self._side.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._side.stdin.write(" ".join(map(str, words)).encode() + b"\n")
            self._side.stdin.flush()

    def _environment(self, extra: Mapping[str, str | None]) -> dict[str, str]:
        outer = os.environ.get(side.MARKER)
        marks = {
            side.MARKER: f"{outer}/{self.run}" if outer else self.run,
            "SPT_NOENV": "1",  # setproctitle (vLLM uses it) would overwrite the environment, and the marker
            "TMPDIR": self._folder,
        }
        merged = {"TORCHINDUCTOR_CACHE_DIR": scratch.inductor_cache(), **os.environ, **extra, **marks}
        return {key: value for key, value in merged.items() if value is not None}


def leftovers() -> list[Leftover]:
    """Processes that carry the mark of a run whose owner is dead. Empty but for seconds after a kill."""
    found = []
    for pid in side.pids():
        runs = [run for run in side.marker(pid).split("/") if run]
        dead = [run for run in runs if not _owner_alive(run)]
        if dead and side.alive(side.stat(pid)):
            found.append(Leftover(pid=pid, run=dead[0], command=_command(pid)))
    return found


def sweep_leftovers(wait: float = 0.0) -> list[Leftover]:
    """End what `leftovers()` finds, after giving their own guard `wait` seconds; return what was ended."""
    deadline = time.monotonic() + wait
    while leftovers() and time.monotonic() < deadline:
        time.sleep(0.1)
    swept = leftovers()
    for run in {one.run for one in swept}:
        tracker = side.Tracker(run, os.getpid())
        if stuck := side.end(tracker, GRACE_SECONDS):
            raise RunFailed(f"processes of an earlier run cannot be ended: {stuck}; see `ps -fp PID`")
    return swept


def _run_id(name: str) -> str:
    """`name-PID-START-N`: the owner's pid and start time let anybody see later whether it still lives."""
    mine = side.stat(os.getpid())
    assert mine is not None
    return f"{re.sub('[^A-Za-z0-9_.]', '_', name)}-{mine.pid}-{mine.start}-{next(_counter)}"


def _owner_alive(run: str) -> bool:
    _, pid, start, _ = run.rsplit("-", 3) if run.count("-") >= 3 else ("", "0", "0", "")
    if not (pid.isdigit() and start.isdigit()):
        return True  # not a mark of ours
    owner = side.stat(int(pid))
    return side.alive(owner) and owner is not None and owner.start == int(start)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
