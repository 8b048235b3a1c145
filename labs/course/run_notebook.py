"""One notebook, run in a guarded process with a time limit; what it leaves is taken over at the end."""

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from labs.cluster.processes import guarded
from labs.core import atomic, paths
from labs.core.errors import UserError
from labs.core.paths import ROOT, runs_dir
from labs.core.record import Record
from labs.course import build, score
from labs.course.answers import Answers
from labs.course.execute import EVENT

Status = Literal["ok", "failed", "timed out"]
LEARNER = "run-week"  # whose answers the scratch folder keeps
OnCell = Callable[[int, int], None]  # (cells done, cells in all)


@dataclass(frozen=True)
class Result:
    """How one notebook ended."""

    stem: str
    status: Status
    seconds: float
    notebook: Path | None  # the executed copy; None if it left none
    record: Record | None  # what this run measured
    message: str = ""  # why it is not ok, one line
    details: str = ""
    points: tuple[float, float] = (0, 0)  # earned, possible
    predictions: dict[str, Any] = field(default_factory=dict)  # that its cells gave


def run(
    notebook: Path,
    stem: str,
    parameters: dict[str, Any],
    *,
    wall_seconds: float,
    cell_seconds: float,
    on_cell: OnCell = lambda done, cells: None,
    command: str = "",
) -> Result:
    """Execute `notebook` into runs/<stem>.ipynb with its Record beside it; an earlier pair stands until then.

    `command` is what the Record names as the way to repeat it.
    The kernel works in a scratch folder of its own (`LABS_RUNS`), so it neither sees nor changes a learner's
    answers. When this function ends, by whatever way, no process of the notebook is left.
    """
    scratch = runs_dir() / f".run-{os.getpid()}"
    scratch.mkdir(exist_ok=True)
    try:
        began = time.monotonic()
        job = {"input": str(notebook), "parameters": parameters, "cell_seconds": cell_seconds}
        end = _execute(job, scratch / f"{stem}.ipynb", scratch, wall_seconds, on_cell, command)
        return _result(stem, scratch, end, time.monotonic() - began)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def clear_scratch() -> None:
    """Remove the scratch folders of runs that were killed."""
    for folder in runs_dir().glob(".run-*"):
        if not Path(f"/proc/{folder.name.removeprefix('.run-')}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _execute(
    job: dict[str, Any], output: Path, scratch: Path, wall_seconds: float, on_cell: OnCell, command: str
) -> dict[str, Any]:
    """Run the child; its last event, or {"late": True} or {"error": …} if there was none."""
    output.parent.mkdir(parents=True, exist_ok=True)
    job_file = atomic.write_text(scratch / "job.json", json.dumps({**job, "output": str(output)}))
    env = {**_environment(scratch), "LABS_COMMAND": command or None}
    log = output.with_suffix(".log")
    deadline = time.monotonic() + wall_seconds
    with _quiet(log), guarded("notebook") as guard, log.open("wb") as stderr:
        argv = [sys.executable, "-m", "labs.course.execute", str(job_file)]
        child = guard.spawn(argv, env=env, stdout=subprocess.PIPE, stderr=stderr)
        assert child.stdout is not None
        cells = 0
        for event in _events(child.stdout, deadline):
            if event is None:
                return {"late": True, "error": f"not done after {wall_seconds:g} s; ended"}
            if "error" in event:
                return event
            cells = event.get("cells", cells)
            on_cell(event.get("done", 0), cells)
    said = log.read_text(errors="replace") if log.exists() else ""
    reason = (said.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
    return {"error": f"the run of the notebook died: {reason}", "details": said}


@contextlib.contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Leave out what every kernel says about its connection, which stays on this machine; no empty log."""
    try:
        yield
    finally:
        lines = log.read_text(errors="replace").splitlines(keepends=True)
        said = [line for line in lines if "running over TCP without encryption" not in line]
        if said:
            log.write_text("".join(said))
        else:
            log.unlink()


def _environment(scratch: Path) -> dict[str, str | None]:
    return {
        "LABS_RUNS": str(scratch),
        "LABS_FAILURES": str(scratch / "failures.jsonl"),
        "LABS_LEARNER": LEARNER,
        "LABS_REVEAL": "1",
        "LABS_STRICT": None,
        "PLOTLY_RENDERER": "plotly_mimetype+notebook_connected",  # for figures that a cell shows by itself
        "JUPYTER_PREFER_ENV_PATH": "1",  # a user's own "python3" kernel may be another Python
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }


def _events(stream: IO[bytes], deadline: float) -> Iterator[dict[str, Any] | None]:
    """The child's events until it closes its output; None at the deadline."""
    lines: queue.Queue[bytes | None] = queue.Queue()

    def read() -> None:
        for line in stream:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            yield None
            return
        if line is None:
            return
        if line.startswith(EVENT.encode()):
            yield json.loads(line[len(EVENT) :])


def _result(stem: str, scratch: Path, end: dict[str, Any], seconds: float) -> Result:
    failures = _failures(scratch)
    message, details = end.get("error") or "", end.get("details", "")
    if not message and failures:
        message = f"{failures[0]['title']}: {failures[0]['message']}"
        details = failures[0]["details"]
    status: Status = "timed out" if end.get("late") else "failed" if message else "ok"
    answers = _answers(stem, scratch)
    notebook, record = _take_over(stem, scratch, whole=status != "timed out")
    return Result(
        stem=stem,
        status=status,
        seconds=seconds,
        notebook=notebook,
        record=record,
        message=message,
        details=details,
        points=score.points(build.exercises(stem, paths.WEEKS.parent), answers),
        predictions={name: entry.model_dump() for name, entry in answers.predictions.items()},
    )


def _failures(scratch: Path) -> list[dict[str, str]]:
    path = scratch / "failures.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _answers(stem: str, scratch: Path) -> Answers:
    path = scratch / "answers" / LEARNER / f"{stem}.json"
    return Answers.model_validate_json(path.read_text()) if path.exists() else Answers(notebook=stem)


def _take_over(stem: str, scratch: Path, whole: bool) -> tuple[Path | None, Record | None]:
    """Move what the run left to runs/; of one that was cut short, only the notebook, under another name."""
    record: Record | None = None
    path = scratch / f"{stem}.json"
    if path.exists():
        try:
            record = Record.load(path)
        except UserError:
            path.unlink()
    kept = [f"{stem}.ipynb", f"{stem}.json"] if whole else []
    target = None
    for file in sorted(path for path in scratch.rglob("*") if path.is_file()):
        name = str(file.relative_to(scratch))
        if name in ("job.json", "failures.jsonl") or name.startswith("answers/"):
            continue
        if name in (f"{stem}.ipynb", f"{stem}.json") and name not in kept:
            name = str(Path(name).with_suffix(f".unfinished{file.suffix}"))
        place = runs_dir() / name
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, place)
        target = place if file.suffix == ".ipynb" else target
    return target, record if whole else None
