"""Which rank failed first, and how to say it. Pure functions of what the launcher saw."""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

TAIL_LINES = 20
# What a healthy rank says when another one has gone away.
_FOLLOW_UP_TYPES = {"DistBackendError", "DistNetworkError", "DistStoreError", "ConnectionResetError"}
_FOLLOW_UP_TYPES |= {"BrokenPipeError", "ConnectionRefusedError", "ConnectionAbortedError", "ConnectionError"}
_FOLLOW_UP = re.compile(
    r"connection (was )?(reset|closed|refused|aborted)|closed by peer|broken pipe|recvbytes|sendbytes|"
    r"remote (process|end)|socket timeout|\[.*/gloo/transport/|nccl.*(remote|aborted|async error)",
    re.IGNORECASE,
)
_HARD = {signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
_HINTS = {
    signal.SIGKILL: " (usual cause: the machine or the container ran out of memory)",
    signal.SIGBUS: " (usual cause: /dev/shm is full)",
}


@dataclass(frozen=True)
class Failure:
    """How one rank ended without a result. `when` is Unix time in seconds."""

    rank: int
    what: str  # "failed: ValueError: …", "was killed by SIGKILL", …
    when: float
    follow_up: bool = False  # looks like the echo of another rank's end
    user: bool = False  # a mistake in the call: `message` alone is for the user
    message: str = ""
    traceback: str = ""


def from_error(rank: int, error: dict[str, str], when: float) -> Failure:
    """The failure that a rank reported itself (see `rank._failed`)."""
    kind, message = error["type"], error["message"]
    echo = kind in _FOLLOW_UP_TYPES or (
        kind not in ("ValueError", "TypeError", "AssertionError") and bool(_FOLLOW_UP.search(message))
    )
    lines = message.strip().split("\n")
    if "validation error" in lines[0]:  # pydantic says which on the lines that follow
        stated = next((line for line in lines if "Value error, " in line), lines[-1]).strip()
        lines[0] = stated.removeprefix("Value error, ").partition(" [type=")[0]
    first_line = lines[0]
    return Failure(
        rank=rank,
        what=f"failed: {kind}: {first_line}" if first_line else f"failed: {kind}",
        when=when,
        follow_up=echo,
        user=error["kind"] == "user",
        message=message,
        traceback=error["traceback"],
    )


def from_exit(rank: int, code: int, last_alive: float, seen_dead: float, has_result: bool = False) -> Failure:
    """The failure of a rank that ended without reporting one. Negative codes are signals.

    A kill comes from outside, so it counts from when the rank was last seen alive: the other ranks' errors
    may reach the launcher before it. An abort may be the answer to another rank's end: from when it was seen.
    """
    if code >= 0:
        when = "before the others had finished" if has_result else "without a result"
        return Failure(rank, f"ended with exit code {code} {when}", seen_dead)
    number = signal.Signals(-code) if -code in set(signal.Signals) else None
    name = number.name if number else f"signal {-code}"
    hint = _HINTS.get(number, "") if number else ""
    return Failure(rank, f"was killed by {name}{hint}", last_alive if number in _HARD else seen_dead)


def first(failures: Sequence[Failure]) -> Failure:
    """The cause: the earliest failure that does not look like another rank's echo, else the earliest."""
    return min(failures, key=lambda one: (one.follow_up, one.when, one.rank))


def headline(failure: Failure, world_size: int) -> str:
    """ "rank 1 of 2 failed: ValueError: …"."""
    return f"rank {failure.rank} of {world_size} {failure.what}"


def details(cause: Failure, failures: Sequence[Failure], world_size: int, tail: str, logs: str) -> str:
    """What a reader needs next: the traceback, the end of the rank's log, what the others said, the logs."""
    parts = [cause.traceback.rstrip()] if cause.traceback else []
    if tail:
        parts.append(f"The end of rank {cause.rank}'s output:\n{tail}")
    parts += [f"Afterwards {headline(one, world_size)}" for one in failures if one is not cause]
    return "\n\n".join([*parts, f"Logs: {logs}"])


def unfinished(ranks: Sequence[int], world_size: int, timeout: float, stopped: Sequence[int] = ()) -> str:
    """ "ranks 0 and 1 of 2 did not finish within 60 s; rank 0 is stopped (SIGSTOP or a debugger)"."""
    why = f"; {_named(stopped)} {'are' if stopped[1:] else 'is'} stopped (SIGSTOP or a debugger)"
    return f"{_named(ranks)} of {world_size} did not finish within {timeout:g} s{why if stopped else ''}"


def _named(ranks: Sequence[int]) -> str:
    names = " and ".join([", ".join(map(str, ranks[:-1])), str(ranks[-1])] if ranks[1:] else map(str, ranks))
    return f"rank{'s' if ranks[1:] else ''} {names}"


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """The last lines of a log."""
    return "\n".join(text.rstrip().splitlines()[-lines:])
