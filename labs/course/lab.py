"""The Lab: what a notebook talks to. Every method shows its result and returns nothing.

    from labs import course

    lab = course.open("week5/03_scaling_benchmark", profile=PROFILE, model=MODEL, tp=TP)
    lab.predict("W5.N3.P1", speedup, unit="x", because=because)
    lab.measure("scaling", after="W5.N3.P1")
    lab.figure("throughput", after="W5.N3.P1", scale="log")
    lab.check("W5.N3.C1", shard_rows)
    lab.scoreboard()

A user's mistake or a failed run is one clear card with its details folded, and later cells go on. Results
whose prediction (`after`) is missing stay hidden. Two variables of the environment change that:

    LABS_REVEAL=1   shows results without a prediction (`make week5`)
    LABS_STRICT=1   raises on a failed run, a failed check and a missing prediction (the tests)
"""

from collections.abc import Callable
from typing import Any

from labs.core import paths
from labs.core.config import ExperimentConfig
from labs.core.errors import UserError
from labs.core.record import Record
from labs.course import build, checks, records, score, setup, shown
from labs.course.answers import Store
from labs.course.checks import Status
from labs.course.running import CheckFailed, reporting, reveal, strict, with_progress
from labs.experiments import base, registry
from labs.experiments.base import Experiment
from labs.report import cards, display, widgets
from labs.report import figure as figures


def open(
    stem: str,
    profile: str = "auto",
    model: str | None = None,
    *,
    learner: str | None = None,
    price_per_hour: float | None = None,
    **overrides: Any,
) -> "Lab":
    """Open a notebook's lab and show the environment card.

    `overrides` are fields of the experiment's settings; None keeps the profile's value. `price_per_hour` is
    what this machine costs. Settings that cannot be used are said in one card; then nothing can be measured,
    and the rest works.
    """
    lab = Lab(registry.find(stem), Store(stem, learner), price_per_hour)
    if lab.store.notice:
        display.show_card(cards.note(lab.store.notice))
    with reporting("Settings"):
        lab.config = setup.configure(lab.experiment, profile, model, overrides)
        display.show_card(setup.environment_card(stem, lab.config, lab.recorded()))
    return lab


class Lab:
    """One learner's work in one notebook. Made by `course.open`."""

    def __init__(self, experiment: Experiment, store: Store, price_per_hour: float | None = None) -> None:
        self.experiment, self.store, self.price_per_hour = experiment, store, price_per_hour
        self.stem = experiment.stem
        self.exercises = build.exercises(self.stem, paths.WEEKS.parent)
        self.config: ExperimentConfig | None = None  # None: the settings cannot be used
        self._measured: list[str] = []  # parts of this session
        self._shown: list[Any] = []  # figures, so that their controls live as long as the Lab

    @property
    def record(self) -> Record | None:
        """The learner's own Record of this notebook, all parts that ran; None before the first."""
        return records.own(self.stem)

    def recorded(self) -> list[Record]:
        """The committed Records of other machines, for comparison; a broken one is named and left out."""
        found, broken = records.recorded(self.stem)
        for line in broken:
            display.show_card(cards.failure("Recorded run", line))
        return found

    def predict(self, name: str, value: Any = None, unit: str = "", because: str = "") -> None:
        """Say beforehand what will be measured: a number in `unit` or a short text, and why.

        None is no prediction yet. Once its measurement was shown, the first value stays.
        """
        with reporting(name):
            self._exercise(name, "P")
            entry = self.store.predict(name, value, unit, because)
            display.show_card(shown.prediction(name, entry))

    def measure(self, part: str, after: str | None = None, again: bool = False) -> None:
        """Run one part of the experiment on this machine and show its result card.

        Without the prediction `after` the part runs and its numbers wait; running the cell once more after
        predicting shows them (`again` measures anew).
        """
        with reporting(f"Measure {part}"):
            is_open = self._gate(after)
            if again or not self._waiting(part):
                self._run(part, masked="" if is_open else f"your prediction {after}")
            self.store.hide(part, hidden=not is_open)
            if part not in self._measured:
                self._measured.append(part)
            if is_open:
                self._show_result(part, after)
            else:
                display.show_card(shown.hidden(f"Measure {part}: done", after))

    def figure(self, name: str, after: str | None = None, **controls: Any) -> None:
        """Show a figure over the learner's own run and the recorded ones, hidden until `after` is given."""
        self._draw(f"Figure {name}", name, after, _show_still, controls)

    def explore(self, name: str, after: str | None = None, **start: Any) -> None:
        """The same figure with controls to turn; `start` are their first values."""
        self._draw(f"Explore {name}", name, after, widgets.explore, start)

    def explain(self, name: str, text: str) -> None:
        """Keep a written answer for review; nothing scores it."""
        with reporting(name):
            self._exercise(name, "E")
            self.store.explain(name, text)
            kept = self.store.answers.explanations.get(name)
            said = f"kept for review, {len(kept.text.split())} words" if kept else "nothing written yet"
            display.show_card(cards.note(f"{name}: {said}"))

    def check(self, name: str, answer: Any) -> None:
        """Judge an answer: pass, wrong (with a hint), not attempted, or error (the learner's code raised)."""
        with reporting(name):
            outcome = checks.judge(name, checks.find(self.stem, name), answer)
            self.store.score(outcome)
            display.show_card(shown.outcome(outcome))
            if strict() and outcome.status is not Status.PASS:
                raise CheckFailed(outcome.text())

    def drill(self, name: str) -> None:
        """Let something fail on purpose and show the one message it ends in."""
        with reporting(f"Drill {name}"):
            drills = self.experiment.drills
            if name not in drills:
                raise UserError(f"{self.stem} has no drill {name!r}; it has {', '.join(drills) or 'none'}")
            message = with_progress(f"Drill {name}", "", lambda say: drills[name](self._settings(), say))
            display.show_card(cards.failure(name, message, drill=True))

    def scoreboard(self, price_per_hour: float | None = None) -> None:
        """Points, predictions against measurements, seconds and cost, and processes that were left behind."""
        with reporting("Scoreboard"):
            record, answers = self.record, self.store.answers
            price = self.price_per_hour if price_per_hour is None else price_per_hour
            seconds = record.seconds if record else None
            compared = score.predictions(
                self.exercises, answers, checks.measured(self.stem, record), reveal=reveal()
            )
            card = shown.scoreboard(self.stem, self.exercises, answers, compared, seconds, price)
            display.show_card(card)
            for row in compared:
                if row["predicted"] is not None and row["measured"] is not None:
                    self.store.see(row["id"])

    def _draw(
        self, title: str, name: str, after: str | None, show: Callable[..., Any], controls: dict[str, Any]
    ) -> None:
        with reporting(title):
            spec = figures.find(self.stem, name)
            if not self._gate(after):
                display.show_card(shown.hidden(spec.title, after))
                return
            self._shown.append(show(spec, self._records(), self._predictions(), **controls))
            self._see(after)

    def _run(self, part: str, masked: str) -> None:
        settings = self._settings()
        new = with_progress(
            f"Measure {part}", masked, lambda say: base.run(self.experiment, settings, [part], say)
        )
        for line in records.keep(self.stem, new):
            display.show_card(cards.note(line))

    def _waiting(self, part: str) -> bool:
        """Whether a run of this part, with these settings, has not been looked at yet."""
        record = self.record if part in self.store.answers.hidden else None
        if record is None or not records.has_part(record, part):
            return False
        return record.config == self.experiment.prepare(self._settings()).model_dump(mode="json")

    def _settings(self) -> ExperimentConfig:
        if self.config is None:
            raise UserError(
                "the lab is not open: mend what the card of course.open(…) says and run that cell"
            )
        return self.config

    def _show_result(self, part: str, after: str | None) -> None:
        record = self.record
        assert record is not None  # the part has just been kept
        entry = self.store.answers.predictions.get(after or "")
        here = records.only_parts(record, self._measured)
        display.show_card(shown.result(self.experiment, here, part, after, entry))
        self._see(after)

    def _gate(self, after: str | None) -> bool:
        """Whether results behind prediction `after` may be shown."""
        if after is None:
            return True
        self._exercise(after, "P")
        if after in self.store.answers.predictions:
            return True
        if reveal():
            return True
        if strict():
            raise UserError(f"the prediction {after} is missing")
        return False

    def _see(self, after: str | None) -> None:
        if after is not None:
            self.store.see(after)

    def _exercise(self, name: str, kind: str) -> None:
        known = [exercise.id for exercise in self.exercises if exercise.kind == kind]
        if name not in known:
            raise UserError(f"{self.stem} has no {name!r}; it has {', '.join(known) or 'none of this kind'}")

    def _records(self) -> list[Record]:
        own = self.record
        return [*([own] if own else []), *self.recorded()]

    def _predictions(self) -> dict[str, Any]:
        return {name: entry.model_dump() for name, entry in self.store.answers.predictions.items()}


def _show_still(*figure: Any, **controls: Any) -> None:
    display.show(figures.render(*figure, **controls))
