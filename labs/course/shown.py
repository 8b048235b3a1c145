"""The cards of one learner's work, from answers and Records. Pure but for the list of leftover processes."""

from collections.abc import Sequence
from typing import Any

from labs.core.record import Record
from labs.course import checks, score
from labs.course.answers import Answers, Prediction
from labs.course.build import Exercise
from labs.course.checks import Outcome
from labs.experiments.base import Experiment
from labs.report import cards
from labs.report.card import Card, Number
from labs.report.figure import format_value


def prediction(name: str, entry: Prediction | None) -> Card:
    """What the learner predicted, or that nothing is predicted yet."""
    if entry is None:
        return cards.note(f"{name}: no prediction yet", "Fill it in and run the cell again.")
    said = f"{format_value(entry.value)} {entry.unit}".rstrip()
    reason = f", because: {entry.because}" if entry.because else "; add your reason for the points"
    later = f"The measurement was already shown, so this stays; {entry.later} is noted beside it."
    return cards.note(f"{name}: you predict {said}{reason}", "" if entry.later is None else later)


def hidden(title: str, after: str | None) -> Card:
    """That a result waits for its prediction."""
    return cards.note(title, f"Hidden until you predict: give {after} a value, run that cell, then this one.")


def result(
    experiment: Experiment, record: Record, part: str, after: str | None, entry: Prediction | None
) -> Card:
    """The result of a part, with the measured side of prediction `after` beside what was said."""
    measured = checks.measured(experiment.stem, record).get(after) if after else None
    numbers = []
    if measured is not None:
        unit, said = (entry.unit, entry.value) if entry else ("", None)
        numbers = [Number(f"Measured, {after}", measured, unit, predicted=said)]
    title = f"{experiment.stem}: {part}" + (" (no prediction given)" if after and not entry else "")
    return cards.result(
        title,
        record,
        numbers=numbers,
        table=(experiment.card or experiment.summary)(record),
        path=f"runs/{experiment.stem}.json",
    )


def outcome(found: Outcome) -> Card:
    """A judged answer."""
    return cards.check(
        found.id,
        found.status.value,
        found.message,
        hint=found.hint,
        points=found.out_of,
        earned=found.points,
    )


def scoreboard(
    stem: str,
    exercises: Sequence[Exercise],
    answers: Answers,
    compared: Sequence[dict[str, Any]],
    seconds: float | None,
    price_per_hour: float | None,
) -> Card:
    """The end of a notebook; names the processes of dead runs, if there are any."""
    from labs.cluster import processes

    return cards.scoreboard(
        f"Scoreboard of {stem}",
        checks=score.rows(exercises, answers),
        predictions=compared,
        explained=score.explained(exercises, answers),
        seconds=seconds,
        cost=score.cost(seconds, price_per_hour),
        leftovers=[f"{left.pid} {left.command}" for left in processes.leftovers()],
    )
