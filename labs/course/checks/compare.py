"""Comparers for checks: a number, a sequence, a choice, a function over cases. Each returns a Verdict.

CHECKS = {
    "W5.N3.C1": Check(2, lambda f: compare.function(f, [((8, 4, 1), (2, 4)), ((10, 4, 3), (7, 10))])),
    "W5.N3.Q1": Check(1, lambda x: compare.number(x, 14.0, unit="KiB", hint="two bytes a value")),
    "W5.N3.Q2": Check(1, lambda x: compare.choice(x, "b", {"a": "that is TP=1", "b": "", "c": "too small"})),
}
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from labs.course.checks.verdict import Verdict

# A ratio of answer to truth that is this close to one of these says which unit was mixed up.
SLIPS = {
    1000.0: "a factor of 1,000 too large: check the unit",
    0.001: "a factor of 1,000 too small: check the unit",
    1024.0: "a factor of 1,024 too large: check the unit",
    1 / 1024: "a factor of 1,024 too small: check the unit",
    8.0: "a factor of 8 too large: bits or bytes?",
    1 / 8: "a factor of 8 too small: bits or bytes?",
    2.0: "a factor of 2 too large",
    0.5: "a factor of 2 too small",
    100.0: "a factor of 100 too large: percent or fraction?",
    0.01: "a factor of 100 too small: percent or fraction?",
    -1.0: "the sign is the other way round",
}


def number(
    found: Any, expected: float, *, rel: float = 0.01, tol: float = 0.0, unit: str = "", hint: str = ""
) -> Verdict:
    """Within `rel` (relative) or `tol` (absolute, in `unit`) of `expected`, which is never shown."""
    value = _plain(found)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Verdict(False, f"a number is wanted, found {_short(found)}", hint)
    if not math.isfinite(value):
        return Verdict(False, f"a finite number is wanted, found {value}", hint)
    text = f"{value:,.6g} {unit}".rstrip()
    if math.isclose(value, expected, rel_tol=rel, abs_tol=tol):
        return Verdict(True, text)
    slip = next(
        (s for r, s in SLIPS.items() if expected and math.isclose(value / expected, r, rel_tol=rel)), ""
    )
    side = slip or ("too large" if value > expected else "too small")
    return Verdict(False, f"{text} is {side}", hint)


def choice(found: Any, expected: str, options: Mapping[str, str], *, hint: str = "") -> Verdict:
    """One of `options`, whose values say what is wrong with each; case and blanks do not matter."""
    given = str(_plain(found)).strip().lower()
    if given not in {name.lower() for name in options}:
        return Verdict(
            False, f"{_short(found)} is none of the options; choose one of {', '.join(options)}", hint
        )
    if given == expected.lower():
        return Verdict(True, given)
    why = next(text for name, text in options.items() if name.lower() == given)
    return Verdict(False, f"{given} is not it", why or hint)


def sequence(
    found: Any, expected: Any, *, rel: float = 0.0, tol: float = 0.0, reveal: bool = False, hint: str = ""
) -> Verdict:
    """Equal element by element (numbers within `rel` or `tol`); else the first wrong index.

    Takes lists, tuples, numpy arrays and tensors, nested as well. `reveal` also says what was expected.
    """
    fault = first_difference(_plain(found), _plain(expected), rel, tol, reveal)
    return (
        Verdict(False, fault, hint) if fault else Verdict(True, f"all of {_count(_plain(expected))} correct")
    )


def function(
    answer: Any,
    cases: Sequence[tuple[tuple[Any, ...], Any]],
    *,
    rel: float = 1e-9,
    tol: float = 0.0,
    hint: str | Callable[[tuple[Any, ...], Any], str] = "",
) -> Verdict:
    """Call `answer(*arguments)` for every (arguments, expected) case; the first wrong case is shown whole.

    `hint` may be a function of (arguments, what was found). The score is the share of right cases, but only
    all of them pass. What `answer` raises is not caught here: `judge` reports it as the learner's error.
    """
    if not callable(answer):
        return Verdict(False, f"a function is wanted, found {_short(answer)}")
    name = getattr(answer, "__name__", "your function")
    first, right = None, 0
    for arguments, expected in cases:
        found = _plain(answer(*arguments))
        fault = first_difference(found, _plain(expected), rel, tol, reveal=True)
        right += not fault
        if fault and first is None:
            call = f"{name}({', '.join(_short(argument) for argument in arguments)})"
            first = f"{call}: {fault}", hint(arguments, found) if callable(hint) else hint
    if first is None:
        return Verdict(True, f"all {len(cases)} cases")
    return Verdict(False, f"{first[0]} ({right} of {len(cases)} cases right)", first[1], score=0)


def first_difference(found: Any, expected: Any, rel: float, tol: float, reveal: bool, at: str = "") -> str:
    """The first place where two plain values differ, in one line; "" if they do not."""
    place = f"index {at}" if at else "the result"
    told = f", expected {_short(expected)}" if reveal else ""
    if isinstance(expected, Mapping):
        if not isinstance(found, Mapping) or set(found) != set(expected):
            return f"{place} is {_short(found)}, expected the keys {', '.join(map(str, expected))}"
        pairs = ((f"{at}[{key!r}]", found[key], expected[key]) for key in expected)
        return next((d for a, f, e in pairs if (d := first_difference(f, e, rel, tol, reveal, a))), "")
    if isinstance(expected, list | tuple):
        if not isinstance(found, list | tuple):
            return f"{place} is {_short(found)}, a sequence of {len(expected)} is expected"
        for i, (one, other) in enumerate(zip(found, expected, strict=False)):
            if difference := first_difference(one, other, rel, tol, reveal, f"{at}[{i}]"):
                return difference
        return (
            ""
            if len(found) == len(expected)
            else f"{place} has {len(found)} entries, expected {len(expected)}"
        )
    numeric = isinstance(expected, int | float) and not isinstance(expected, bool)
    if numeric and isinstance(found, int | float) and not isinstance(found, bool):
        return (
            ""
            if math.isclose(found, expected, rel_tol=rel, abs_tol=tol)
            else f"{place} is {_short(found)}{told}"
        )
    same = type(found) is type(expected) and found == expected
    return "" if same else f"{place} is {_short(found)}{told}"


def _plain(value: Any) -> Any:
    """Arrays and tensors as lists, numpy scalars as numbers, ranges and sets as lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, range | set | frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return value


def _count(value: Any) -> str:
    return f"{len(value)} entries" if isinstance(value, list | tuple | dict) else "it"


def _short(value: Any, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
