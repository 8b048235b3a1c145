"""What a check is, and how an answer is judged: pass, wrong, not attempted, or error (the code raised)."""

import sysconfig
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from labs.core.paths import ROOT


@dataclass(frozen=True)
class Verdict:
    """What a check found. `hint` helps after a wrong answer; `score` is the share of the points (0 to 1)."""

    passed: bool
    message: str
    hint: str = ""
    score: float | None = None  # None: 1 if passed, else 0

    @property
    def share(self) -> float:
        """`score`, or what `passed` says, kept between 0 and 1."""
        return max(0.0, min(1.0, float(self.passed) if self.score is None else self.score))


@dataclass(frozen=True)
class Check:
    """One exercise's check: `run(answer)` returns a Verdict. It is deterministic and quick."""

    points: float
    run: Callable[[Any], Verdict]


class Status(StrEnum):
    """How an answer ended. A partial score is `WRONG` with points."""

    PASS = "pass"
    WRONG = "wrong"
    ERROR = "error"
    NOT_ATTEMPTED = "not attempted"


@dataclass(frozen=True)
class Outcome:
    """One judged answer, as it is shown and kept."""

    id: str
    status: Status
    message: str
    points: float
    out_of: float
    hint: str = ""

    def text(self) -> str:
        """`W5.N3.C1: wrong: shard_rows(8, 4, 1): …`, one line for a log or an exception."""
        return f"{self.id}: {self.status}: {self.message}"


def judge(name: str, check: Check, answer: Any) -> Outcome:
    """Run `check` on the learner's answer in this process. Never raises, except for KeyboardInterrupt."""
    if not attempted(answer):
        return Outcome(name, Status.NOT_ATTEMPTED, "no answer yet", 0, check.points)
    try:
        verdict = check.run(answer)
    except NotImplementedError:
        return Outcome(name, Status.NOT_ATTEMPTED, "the function is still the stub", 0, check.points)
    except (Exception, SystemExit) as error:
        return Outcome(name, Status.ERROR, last_line(error), 0, check.points)
    status = Status.PASS if verdict.passed else Status.WRONG
    hint = "" if verdict.passed else verdict.hint
    return Outcome(name, status, verdict.message, check.points * verdict.share, check.points, hint)


def attempted(answer: Any) -> bool:
    """False for None, "" and for a non-empty list, tuple or dict of nothing else."""
    if isinstance(answer, Mapping):
        answer = list(answer.values())
    if isinstance(answer, Sequence) and not isinstance(answer, str | bytes) and answer:
        return any(attempted(part) for part in answer)
    return answer is not None and not (isinstance(answer, str) and not answer.strip())


def last_line(error: BaseException) -> str:
    """`ZeroDivisionError: division by zero (line 3 of shard_rows)`.

    An error raised in the check itself says that the answer's form is what the check cannot use.
    """
    what = traceback.format_exception_only(error)[-1].strip()
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _theirs(frame.filename)]
    if not frames:
        return f"the check cannot use an answer of this form: {what}"
    return f"{what} (line {frames[-1].lineno} of {frames[-1].name})"


def _theirs(filename: str) -> bool:
    """Whether a frame is the learner's: not the check's, not the standard library's, not a package's."""
    path = Path(filename)
    outside = [
        ROOT / "labs" / "course",
        *map(Path, {sysconfig.get_path(key) for key in ("stdlib", "purelib", "platlib")}),
    ]
    return not any(path.is_relative_to(folder) for folder in outside)
