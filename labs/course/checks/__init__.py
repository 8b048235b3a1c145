"""Checks of the exercises: labs.course.checks.week5.<module> for notebook week5/NN_<module>.

A module holds

    CHECKS: dict[str, Check]     # "W5.N3.C1" -> Check(points, run); points as in the cell's settings
    MEASURED: dict[str, Callable[[Record], Any]]   # "W5.N3.P1" -> what the Record says, None if it does not

`run(answer)` returns a Verdict; `labs.course.checks.compare` makes the usual ones. NotImplementedError (the
stub raises it) reads as "not attempted", any other exception as an error in the learner's code. MEASURED is
what the scoreboard sets beside each prediction; leave out those that nothing measures.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from labs.core.errors import UserError
from labs.core.record import Record
from labs.course.checks import compare as compare
from labs.course.checks.verdict import Check as Check
from labs.course.checks.verdict import Outcome as Outcome
from labs.course.checks.verdict import Status as Status
from labs.course.checks.verdict import Verdict as Verdict
from labs.course.checks.verdict import attempted as attempted
from labs.course.checks.verdict import judge as judge


def module_name(stem: str) -> str:
    """`week5/03_scaling_benchmark` -> `labs.course.checks.week5.scaling_benchmark`."""
    week, _, name = stem.partition("/")
    return f"{__name__}.{week}.{name.partition('_')[2]}"


def load(stem: str) -> Mapping[str, Check]:
    """The checks of a notebook; none where it has no module."""
    return getattr(_module(stem), "CHECKS", {})


def measured(stem: str, record: Record | None) -> dict[str, Any]:
    """What the Record says about each prediction of the notebook; None for what was not measured."""
    sources: Mapping[str, Callable[[Record], Any]] = getattr(_module(stem), "MEASURED", {})
    return {name: source(record) if record is not None else None for name, source in sources.items()}


def find(stem: str, name: str) -> Check:
    """The check of one exercise; UserError for an unknown id."""
    known = load(stem)
    if name not in known:
        raise UserError(f"{stem} has no check {name!r}; it has {', '.join(known) or 'none'}")
    return known[name]


def _module(stem: str) -> ModuleType | None:
    name = module_name(stem)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise
