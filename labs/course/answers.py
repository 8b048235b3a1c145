"""A learner's predictions, explanations and scores of one notebook: one JSON file under runs/.

    runs/answers/<learner>/week5/03_scaling_benchmark.json

Written whole at every change, so it outlives the kernel. A file that cannot be read is set aside, never
overwritten. `LABS_LEARNER` names the learner where several share a checkout (default: "me").
"""

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labs.core import atomic
from labs.core.errors import UserError
from labs.core.paths import runs_dir
from labs.course.checks import Outcome, Status, attempted

SCHEMA = "labs.answers/1"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Prediction(_Model):
    """What the learner expects. Once its measurement was shown (`seen`), the value stays."""

    value: Any
    unit: str = ""
    because: str = ""
    at: str
    seen: bool = False
    later: Any = None  # what the learner wrote after seeing the measurement


class Explanation(_Model):
    """A written answer, kept for review."""

    text: str
    at: str


class Score(_Model):
    """The latest attempt at one checked exercise."""

    status: Status
    message: str
    points: float
    out_of: float
    at: str


class Answers(_Model):
    """All that one learner gave in one notebook."""

    schema_version: str = SCHEMA
    notebook: str
    predictions: dict[str, Prediction] = Field(default_factory=dict)
    explanations: dict[str, Explanation] = Field(default_factory=dict)
    scores: dict[str, Score] = Field(default_factory=dict)
    hidden: list[str] = Field(default_factory=list)  # parts that ran while their prediction was missing


class Store:
    """The file of one learner and notebook. `notice` is one line for the learner, or ""."""

    def __init__(self, stem: str, learner: str | None = None) -> None:
        name = learner or os.environ.get("LABS_LEARNER") or "me"
        if not re.fullmatch(r"\w[\w.@-]*", name):
            raise UserError(f"learner {name!r}: use letters, digits and . _ - @")
        self.path = runs_dir() / "answers" / name / f"{stem}.json"
        self.answers, self.notice = _load(self.path, stem)

    def save(self) -> None:
        """Write the file, whole or not at all."""
        text = json.dumps(self.answers.model_dump(mode="json"), indent=1, ensure_ascii=False)
        atomic.write_text(self.path, text + "\n")

    def predict(self, name: str, value: Any, unit: str, because: str) -> Prediction | None:
        """Keep a prediction and return what counts: an earlier one that was seen, this one, or None."""
        old = self.answers.predictions.get(name)
        if not attempted(value):
            return old
        value = value.item() if hasattr(value, "item") else value
        if old and old.seen:
            new = old.model_copy(update={"later": value if value != old.value else None})
        else:
            new = Prediction(value=value, unit=unit, because=because.strip(), at=_now())
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise UserError(f"{name}: a prediction is a number or a short text, found {value!r}") from None
        self.answers.predictions[name] = new
        self.save()
        return new

    def see(self, name: str) -> None:
        """Note that the measurement which `name` predicts has been shown."""
        entry = self.answers.predictions.get(name)
        if entry and not entry.seen:
            self.answers.predictions[name] = entry.model_copy(update={"seen": True})
            self.save()

    def hide(self, part: str, hidden: bool) -> None:
        """Note whether a part's result waits for its prediction."""
        parts = set(self.answers.hidden)
        changed = parts | {part} if hidden else parts - {part}
        if changed != parts:
            self.answers.hidden = sorted(changed)
            self.save()

    def explain(self, name: str, text: str) -> None:
        """Keep a written answer; an empty one does not erase an earlier one."""
        if attempted(text):
            self.answers.explanations[name] = Explanation(text=text.strip(), at=_now())
            self.save()

    def score(self, outcome: Outcome) -> None:
        """Keep an attempt; a stub that runs again after a restart does not erase an earlier attempt."""
        if outcome.status is Status.NOT_ATTEMPTED:
            return
        self.answers.scores[outcome.id] = Score(
            status=outcome.status,
            message=outcome.message,
            points=outcome.points,
            out_of=outcome.out_of,
            at=_now(),
        )
        self.save()


def _load(path: Path, stem: str) -> tuple[Answers, str]:
    try:
        found = Answers.model_validate_json(path.read_text(encoding="utf-8"))
        if found.schema_version == SCHEMA and found.notebook == stem:
            return found, ""
    except FileNotFoundError:
        return Answers(notebook=stem), ""
    except (OSError, UnicodeDecodeError, ValidationError):
        pass
    aside = path.with_name(f"{path.stem}.broken-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.json")
    try:
        os.replace(path, aside)
    except OSError as error:
        raise UserError(f"{path} cannot be read and cannot be moved ({error.strerror}); remove it") from None
    return Answers(
        notebook=stem
    ), f"your answers in {path} could not be read; the file is kept as {aside.name}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
