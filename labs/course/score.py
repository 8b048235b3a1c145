"""Points and predictions of a notebook as rows of tables. Pure functions of exercises and answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from labs.course.answers import Answers
from labs.course.build import Exercise
from labs.course.checks import Status

HIDDEN = "shown after your prediction"


def rows(exercises: Sequence[Exercise], answers: Answers) -> list[dict[str, Any]]:
    """One row an exercise with points: id, status, points, earned.

    A prediction earns its points for a value with a reason, never for being close. Explanations are read by
    people and have no row.
    """
    return [_row(exercise, answers) for exercise in exercises if exercise.points and exercise.kind != "E"]


def points(exercises: Sequence[Exercise], answers: Answers) -> tuple[float, float]:
    """(earned, possible)."""
    found = rows(exercises, answers)
    return sum(row["earned"] for row in found), sum(row["points"] for row in found)


def explained(exercises: Sequence[Exercise], answers: Answers) -> tuple[int, int]:
    """(explanations written, asked for)."""
    asked = [exercise.id for exercise in exercises if exercise.kind == "E"]
    return sum(name in answers.explanations for name in asked), len(asked)


def predictions(
    exercises: Sequence[Exercise], answers: Answers, measured: Mapping[str, Any], reveal: bool = False
) -> list[dict[str, Any]]:
    """One row a prediction: id, predicted, measured, measured over predicted (numbers only), unit.

    A measurement whose prediction is missing stays hidden, unless `reveal`.
    """
    found = []
    for exercise in exercises:
        if exercise.kind != "P" or (exercise.id not in measured and exercise.id not in answers.predictions):
            continue
        given = answers.predictions.get(exercise.id)
        value = measured.get(exercise.id)
        found.append(
            {
                "id": exercise.id,
                "predicted": given.value if given else None,
                "measured": value if given or reveal or value is None else HIDDEN,
                "measured/predicted": _ratio(value, given.value) if given else "",
                "unit": given.unit if given else "",
            }
        )
    return found


def _row(exercise: Exercise, answers: Answers) -> dict[str, Any]:
    status, earned = Status.NOT_ATTEMPTED, 0.0
    if exercise.kind == "P":
        given = answers.predictions.get(exercise.id)
        if given:
            status, earned = (Status.PASS, exercise.points) if given.because else (Status.WRONG, 0.0)
    elif score := answers.scores.get(exercise.id):
        share = score.points / score.out_of if score.out_of else 0
        status, earned = score.status, exercise.points * share
    return {"id": exercise.id, "status": status.value, "points": exercise.points, "earned": earned}


def _ratio(value: Any, predicted: Any) -> float | str:
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (value, predicted))
    return value / predicted if numbers and predicted else ""


def cost(seconds: float | None, price_per_hour: float | None) -> str | None:
    """`0.42 at 12.5 an hour, …`; None without a price or a time."""
    if seconds is None or price_per_hour is None:
        return None
    return f"{seconds / 3600 * price_per_hour:.2f} at {price_per_hour:g} an hour, for the measuring alone"
