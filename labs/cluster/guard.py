"""The side process that ends a run's processes, and the /proc walk by which they are found.

`labs.cluster.processes` starts this file as a process of its own (standard library only, in a session of its
own, deaf to Ctrl-C and SIGTERM). Its standard input is a pipe whose other end only the owner of the run
holds. The owner writes what is in /dev/shm before it starts the first process, then the pid of each. When
the pipe closes, because the owner is done or because it was killed with SIGKILL, the guard ends every
process of the run and exits.

A process belongs to a run if
- its environment carries the run's id in LABS_RUN (children inherit it), or
- its parent or its session belongs, or
- it was ever seen to belong: the guard looks twice a second, so that a daemon that first forks twice, calls
  setsid() and overwrites its environment (process titles do that) is still known by pid and start time.

What killed processes leave goes with them: the run's temporary folder, and the shared memory in /dev/shm that
they had mapped. Nothing else ever removes that; it is memory, and what finds its name taken may not start.
"""

import contextlib
import os
import select
import signal
import stat as _stat
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

MARKER = "LABS_RUN"  # "outer/inner": a run inside a run belongs to both
POLL_SECONDS = 0.5
KILL_SECONDS = 10.0
SHM = "/dev/shm"
OLDER = b"older"  # the line with the inodes that were in /dev/shm before the run


@dataclass(frozen=True)
class Stat:
    """What /proc/PID/stat says. `start` (clock ticks since boot) and the pid name a process for good."""

    pid: int
    state: str
    ppid: int
    session: int
    start: int


def stat(pid: int) -> Stat | None:
    """The process's state, or None if there is none with this pid."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # the name before it may hold anything
    except OSError:
        return None
    return Stat(pid, fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]))


def alive(found: Stat | None) -> bool:
    """Zombies are dead: they wait for their parent to read the exit code."""
    return found is not None and found.state not in "ZX"


def marker(pid: int) -> str:
    """The LABS_RUN value in the environment of a process; "" if it has none or is not ours to read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read()
    except OSError:
        return ""
    for entry in environment.split(b"\0"):
        if entry.startswith(MARKER.encode() + b"="):
            return entry.partition(b"=")[2].decode(errors="replace")
    return ""


def pids() -> list[int]:
    """Every pid that is visible here."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def shm_files() -> set[tuple[str, int]]:
    """(path, inode) of the private files in /dev/shm: shm_open() makes them with mode 0600."""
    found = set()
    with contextlib.suppress(OSError), os.scandir(SHM) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                about = entry.stat(follow_symlinks=False)
                if _stat.S_ISREG(about.st_mode) and _stat.S_IMODE(about.st_mode) == 0o600:
                    found.add((entry.path, about.st_ino))
    return found


def mapped(pid: int) -> set[int]:
    """Inodes of the files in /dev/shm that a process has mapped; none if its memory is not ours to read."""
    found = set()
    with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", "rb") as file:
        for line in file:
            if b" /dev/shm/" in line:
                found.add(int(line.split(None, 5)[4]))
    return found


class Shared:
    """The shared memory of a run: what has its name, or came into /dev/shm after its begin and was mapped.

    The name (labs.serving.shared_memory gives it) tells even what is made and killed between two looks.
    """

    def __init__(self, run: str) -> None:
        self.run = run
        self.began = self.next = time.monotonic()
        self.older: set[int] | None = None  # inodes that were there before; None: not known
        self.inodes: set[int] = set()

    def look(self, members: Iterable["Stat"], now: bool = False) -> None:
        """Note what the members have mapped; ever more rarely, for the list of a CUDA process is long."""
        if now or time.monotonic() >= self.next:
            for member in members:
                self.inodes |= mapped(member.pid)
            age = time.monotonic() - self.began
            self.next = time.monotonic() + min(15.0, max(1.0, age / 4))

    def remove(self) -> None:
        """Remove those that no live process has mapped any more."""
        new = set() if self.older is None else self.inodes - self.older
        ours = {(path, ino) for path, ino in shm_files() if ino in new or f"{self.run}-" in path}
        used = set().union(*map(mapped, pids())) if ours else set()
        for path, inode in ours:
            if inode not in used:
                with contextlib.suppress(OSError):
                    os.unlink(path)


class Tracker:
    """Which processes belong to a run. Once seen, a member stays one until it is gone."""

    def __init__(self, run: str, owner: int) -> None:
        """`owner` (the process that holds the run) is never a member, nor is the caller."""
        self.run = run
        self.strangers: set[int] = set()  # looked at and not ours; dropped by `members(fresh=True)`
        self.known: dict[int, int] = {}  # pid -> start
        self.owner = owner
        self.never = {owner, os.getpid(), 1}
        mine = stat(owner)
        self.owner_session = mine.session if mine else -1
        self.shared = Shared(run)

    def add(self, pid: int) -> None:
        """Take a process in by hand: the owner has just started it."""
        found = stat(pid)
        if found and pid not in self.never:
            self.known[pid] = found.start
            self.strangers.discard(pid)

    def members(self, fresh: bool = True) -> list[Stat]:
        """The live members. `fresh=False` trusts what was found before about processes that are not ours."""
        here = set(pids())
        self.strangers = set() if fresh else self.strangers & here
        found = {pid: entry for pid in here - self.strangers if (entry := stat(pid))}
        ours = {pid: entry for pid, entry in found.items() if self.known.get(pid) == entry.start}
        others = [found[pid] for pid in found if pid not in ours and pid not in self.never]
        marked = {entry.pid for entry in others if self.run in marker(entry.pid).split("/")}
        while joined := [entry for entry in others if self._belongs(entry, ours, marked)]:
            ours.update((entry.pid, entry) for entry in joined)
            others = [entry for entry in others if entry.pid not in ours]
        # A child of the owner may be on its way to exec(): not marked yet, so look again.
        self.strangers |= {entry.pid for entry in others if entry.ppid != self.owner}
        self.known = {entry.pid: entry.start for entry in ours.values() if alive(entry)}
        return [entry for entry in ours.values() if alive(entry)]

    def _belongs(self, entry: Stat, ours: dict[int, Stat], marked: set[int]) -> bool:
        sessions = {member.session for member in ours.values()} - {self.owner_session, 0}
        return entry.pid in marked or entry.ppid in ours or entry.session in sessions


def end(tracker: Tracker, grace: float) -> list[int]:
    """End every member: SIGTERM, `grace` seconds, SIGKILL. Return the pids that even that did not end.

    The shared memory that they leave is removed.
    """
    asked: set[tuple[int, int]] = set()
    tracker.shared.look(tracker.members(), now=True)
    deadline = time.monotonic() + grace
    while members := tracker.members():
        if time.monotonic() > deadline:
            break
        _signal([entry for entry in members if (entry.pid, entry.start) not in asked], signal.SIGTERM)
        asked |= {(entry.pid, entry.start) for entry in members}
        time.sleep(0.03)
    deadline = time.monotonic() + KILL_SECONDS
    while members and time.monotonic() < deadline:
        _signal(members, signal.SIGKILL)
        time.sleep(0.03)
        members = tracker.members()
    tracker.shared.remove()
    return [entry.pid for entry in members]


def _signal(targets: Iterable[Stat], number: signal.Signals) -> None:
    for entry in targets:
        now = stat(entry.pid)
        if now and now.start == entry.start:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(entry.pid, number)


def main(run: str, owner: int, grace: float, folder: str) -> int:
    """Watch until the owner lets go of the pipe or is gone; then end the run. Exit 1: something survived.

    `folder` holds the run's temporary files and is removed at the end.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    tracker = Tracker(run, owner)
    pending = b""
    while (
        os.getppid() == owner
    ):  # a forked child of the owner may hold the pipe open beyond the owner's death
        if not select.select([0], [], [], POLL_SECONDS)[0]:
            tracker.shared.look(tracker.members(fresh=False))
            continue
        data = os.read(0, 4096)
        if not data:
            break
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            if line.startswith(OLDER):
                tracker.shared.older = set(map(int, line.split()[1:]))
            else:
                tracker.add(int(line))
    survived = end(tracker, grace)
    from shutil import rmtree  # not at the start, which the first child waits for

    rmtree(folder, ignore_errors=True)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
