"""Running a job from a cell: progress in place, one clear card when it fails, nothing left after Ctrl-C."""

import contextlib
import json
import os
import traceback
from collections.abc import Callable, Iterator
from typing import TypeVar

from labs.core.errors import RunFailed, UserError
from labs.report import cards, display
from labs.report.progress import Progress

T = TypeVar("T")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run, after its processes were ended; shows as one line."""

    def __init__(self) -> None:
        super().__init__("every process of the run has been ended; the kernel can be used on")

    def _render_traceback_(self) -> list[str]:
        return [f"interrupted: {self}"]


def reveal() -> bool:
    """Whether results show without their prediction."""
    return os.environ.get("LABS_REVEAL") == "1"


def strict() -> bool:
    """Whether what fails raises."""
    return os.environ.get("LABS_STRICT") == "1"


@contextlib.contextmanager
def reporting(title: str) -> Iterator[None]:
    """Show what goes wrong as one card; raise it only under LABS_STRICT."""
    try:
        yield
    except CheckFailed:
        raise
    except (UserError, RunFailed) as error:
        _report(title, str(error), getattr(error, "details", ""))
        if strict():
            raise
    except Exception as error:
        line = f"{type(error).__name__}: {error} (a fault of the lab package, not of yours)"
        _report(title, line, traceback.format_exc())
        if strict():
            raise


def _report(title: str, message: str, details: str) -> None:
    """Show the card, and tell whoever runs the whole notebook (`LABS_FAILURES` names its file)."""
    display.show_card(cards.failure(title, message, details))
    if path := os.environ.get("LABS_FAILURES"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"title": title, "message": message, "details": details}) + "\n")


class CheckFailed(AssertionError):
    """A check that did not pass, under LABS_STRICT; its card has been shown."""


def with_progress(title: str, masked: str, job: Callable[[Callable[[str], None]], T]) -> T:
    """Run `job(say)` and show its lines in place; `masked` keeps them from being read (see Progress)."""
    progress = Progress(title, masked)
    try:
        result = job(progress.say)
    except KeyboardInterrupt:
        progress.end("interrupted")
        raise Interrupted() from None
    except BaseException:
        progress.end("failed")
        raise
    progress.end("done")
    return result
