"""The checks of the concurrency notebook: the solution passes, the stub waits, each slip gets its hint."""

from collections.abc import Callable
from typing import Any

import pytest

from labs.course import checks
from labs.course.build import exercises
from labs.course.checks import Outcome, Status
from labs.tests import concurrent_toys as toys

CHECKS = checks.load(toys.STEM)


def judge(name: str, answer: Any) -> Outcome:
    return checks.judge(f"W5.N2.{name}", CHECKS[f"W5.N2.{name}"], answer)


def percentile(samples: list[float], p: float) -> float | None:
    if not samples or len(samples) < 100 / min(p, 100 - p) - 1e-9:
        return None
    values = sorted(samples)
    position = (len(values) - 1) * p / 100
    low = int(position)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (position - low)


def send_times(gaps: list[float]) -> list[float]:
    return [sum(gaps[: i + 1]) for i in range(len(gaps))]


def late_by(intended: list[float], sent: list[float]) -> list[float]:
    return [b - a for a, b in zip(intended, sent, strict=True)]


def goodput(rows: list[dict], ttft_s: float, tpot_s: float, seconds: float) -> float:
    good = [
        r
        for r in rows
        if not r["error"] and r["ttft"] <= ttft_s and (r["tpot"] is None or r["tpot"] <= tpot_s)
    ]
    return len(good) / seconds


def jain(shares: list[float]) -> float:
    return sum(shares) ** 2 / (len(shares) * sum(x * x for x in shares))


def stub(*arguments: Any) -> Any:
    raise NotImplementedError


SOLUTIONS = {
    "C1": percentile,
    "Q1": 280.5,
    "C2": [send_times, late_by],
    "C3": goodput,
    "C4": jain,
}


@pytest.mark.parametrize("name", SOLUTIONS)
def test_the_solution_passes(name: str) -> None:
    found = judge(name, SOLUTIONS[name])
    assert found.status is Status.PASS, found.text()
    assert found.points == CHECKS[f"W5.N2.{name}"].points


@pytest.mark.parametrize(
    ("name", "answer"), [("C1", stub), ("Q1", None), ("C2", [stub, stub]), ("C3", stub), ("C4", stub)]
)
def test_the_stub_is_not_attempted(name: str, answer: Any) -> None:
    assert judge(name, answer).status is Status.NOT_ATTEMPTED


def nearest(samples: list[float], p: float) -> float | None:
    return None if percentile(samples, p) is None else sorted(samples)[int(len(samples) * p / 100)]


def always(samples: list[float], p: float) -> float | None:
    if not samples:
        return None
    values, position = sorted(samples), (len(samples) - 1) * p / 100
    low = int(position)
    return values[low] + (values[min(low + 1, len(values) - 1)] - values[low]) * (position - low)


def unsorted(samples: list[float], p: float) -> float | None:
    if percentile(samples, p) is None:
        return None
    position = (len(samples) - 1) * p / 100
    low = int(position)
    return samples[low] + (samples[min(low + 1, len(samples) - 1)] - samples[low]) * (position - low)


def in_place(samples: list[float], p: float) -> float | None:
    samples.sort()
    return percentile(samples, p)


SLIPS: list[tuple[str, Any, str]] = [
    ("C1", nearest, "position"),
    ("C1", always, "maximum under another name"),
    ("C1", unsorted, "sort a copy"),
    ("C1", lambda s, p: percentile(s, p) if len(s) > 20 or p != 95 else None, "n is enough"),
    ("C1", in_place, "in place"),
    ("Q1", 4.38, "tokens are not requests"),
    ("Q1", 8.77, "32 requests are inside"),
    ("Q1", 0.2805, "unit is ms"),
    ("C2", [lambda gaps: gaps, late_by], "running sum"),
    ("C2", [lambda gaps: [0.0, *send_times(gaps)[:-1]] if gaps else [], late_by], "after the first gap"),
    ("C2", [send_times, lambda a, b: [x - y for x, y in zip(a, b, strict=True)]], "sign"),
    ("C2", [send_times, lambda a, b: [b[0] - a[0]] * len(a) if a else []], "does not move the"),
    ("C3", lambda rows, a, b, s: goodput([{**r, "error": None} for r in rows], a, b, s), "failed request"),
    ("C3", lambda rows, a, b, s: sum(r["error"] is None for r in rows) / s, "not the mean"),
    ("C3", lambda rows, a, b, s: goodput(rows, a, b, 1.0), "divide by the seconds"),
    ("C3", lambda rows, a, b, s: goodput([r for r in rows if r["tpot"]], a, b, s), "one-token"),
    ("C3", lambda rows, a, b, s: sum(r["tpot"] <= b for r in rows) / s, "one-token"),
    ("C4", lambda x: sum(v * v for v in x) / sum(v * v for v in x), "square of the sum"),
    ("C4", lambda x: sum(x) ** 2 / sum(v * v for v in x), "n is missing"),
    ("C4", lambda x: sum(x) / (len(x) * sum(v * v for v in x)), "second order"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "answer", "hint"), SLIPS)
def test_a_typical_slip_gets_its_hint(name: str, answer: Any, hint: str) -> None:
    found = judge(name, answer)
    assert found.status is Status.WRONG, found.text()
    assert hint in found.hint


def test_half_of_a_pair_earns_half() -> None:
    assert judge("C2", [send_times, lambda a, b: [0.0] * len(a)]).points == 1
    assert judge("C2", [send_times]).status is Status.WRONG


def test_points_agree_with_the_notebook() -> None:
    cells = {e.id: e.points for e in exercises(toys.STEM) if e.kind in "CQ"}
    assert {name: check.points for name, check in CHECKS.items()} == cells


def test_each_prediction_has_its_measurement() -> None:
    measured = checks.measured(toys.STEM, toys.own())
    assert set(measured) == {e.id for e in exercises(toys.STEM) if e.kind == "P"}
    expected: dict[str, Callable[[], float]] = {
        "W5.N2.P1": lambda: 10,
        "W5.N2.P3": lambda: (0.1 + 49.5 * 0.02) / 0.1,
        "W5.N2.P4": lambda: 6.5 / 3.5,
        "W5.N2.P5": lambda: 110 / 0.21 / 550,
    }
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value())
    assert measured["W5.N2.P2"] > 1


def test_what_was_not_measured_has_no_value() -> None:
    assert set(checks.measured(toys.STEM, toys.record([])).values()) == {None}
