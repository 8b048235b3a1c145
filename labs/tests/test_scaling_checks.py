"""The checks of notebook 03: solutions pass, stubs are not attempted, typical mistakes get their hint."""

import math
from typing import Any

import pytest

from labs.course import build, checks
from labs.course.checks import Status, judge
from labs.course.checks.week5.scaling_benchmark import CHECKS, MEASURED
from labs.tests import scaling_toys as toys
from labs.tests.exercises import answers

STEM = toys.STEM


def test_ids_and_points_of_source_and_checks_agree() -> None:
    assert build.audit(STEM) == []
    assert checks.load(STEM) is CHECKS
    kinds = {exercise.id for exercise in build.exercises(STEM) if exercise.kind == "P"}
    assert set(MEASURED) == kinds


def test_solutions_pass_and_stubs_are_not_attempted() -> None:
    solved, stubs = answers(STEM, CHECKS, solved=True), answers(STEM, CHECKS, solved=False)
    assert set(solved) == set(stubs) == set(CHECKS)
    for name, check in CHECKS.items():
        assert judge(name, check, solved[name]).status is Status.PASS, name
        assert judge(name, check, stubs[name]).status is Status.NOT_ATTEMPTED, name


def clipped(speed: float, ranks: int) -> float:
    return min(1.0, (1 / speed - 1 / ranks) / (1 - 1 / ranks))


def right_bytes(size: float, ranks: int) -> float:
    return 2 * (ranks - 1) / ranks * size


WRONG = [
    ("C1", lambda L, t, s: 2 * L * t / s, "split by vocabulary"),
    ("C1", lambda L, t, s: L * t / s, "two in each layer"),
    ("C1", lambda L, t, s: (L + 1) * t / s, "two in each layer"),
    ("C1", lambda L, t, s: 100 * (2 * L + 1) * t / s, "not per cent"),
    ("C1", lambda L, t, s: t / s, "count the all-reduces"),
    ("C2", (lambda z, n: (n - 1) / n * z, None), "reduce-scatter and an all-gather"),
    ("C2", (lambda z, n: 2 * (n - 1) * z, None), "carries size/N"),
    ("C2", (lambda z, n: 2 * (n - 1) / n * z if n > 1 else z, None), "nobody to send to"),
    ("C2", (right_bytes, lambda z, n, a, w: right_bytes(z, n) / w), "where is alpha"),
    (
        "C2",
        (right_bytes, lambda z, n, a, w: a + right_bytes(z, n) / w),
        "each of the 2·(N − 1) steps pays alpha",
    ),
    ("C2", (right_bytes, lambda z, n, a, w: 2 * (n - 1) * a + z / w), "use ring_bytes"),
    ("C2", (right_bytes, lambda z, n, a, w: 2 * (n - 1) * a + right_bytes(z, n) * w), "divide"),
    ("C3", lambda s, n: s / n, "efficiency"),
    ("C3", lambda s, n: (1 / n - 1 / s) / (1 - 1 / n), "1/S comes first"),
    ("C3", lambda s, n: 1 / s - 1 / n, "divide by 1 − 1/N"),
    ("C3", clipped, "do not clip"),
    ("Q1", 0.64, "inverse"),
    ("Q1", 4, "also make more tokens"),
    ("Q1", 2.56, "that is the speed-up"),
    ("Q1", 17, "N devices cost N times"),
]


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_a_typical_mistake_gets_its_hint(name: str, answer: Any, hint: str) -> None:
    found = judge(name, CHECKS[f"W5.N3.{name}"], answer)
    assert found.status is Status.WRONG, found.message
    assert hint in found.hint


def test_half_of_the_ring_is_half_of_the_points() -> None:
    found = judge("C2", CHECKS["W5.N3.C2"], [right_bytes, lambda z, n, a, w: 0.0])
    assert (found.status, found.points, found.out_of) == (Status.WRONG, 1, 2)


def test_half_of_the_ring_unwritten_is_not_attempted() -> None:
    def stub(*_: Any) -> float:
        raise NotImplementedError("W5.N3.C2")

    assert judge("C2", CHECKS["W5.N3.C2"], [right_bytes, stub]).status is Status.NOT_ATTEMPTED
    assert judge("C2", CHECKS["W5.N3.C2"], right_bytes).status is Status.WRONG


@pytest.mark.parametrize(("answer", "passes"), [(1.5625, True), (1.55, True), (1.57, True), (1.6, False)])
def test_the_price_ratio_may_be_rounded(answer: float, passes: bool) -> None:
    assert (judge("Q1", CHECKS["W5.N3.Q1"], answer).status is Status.PASS) is passes


def test_what_was_measured_stands_beside_each_prediction() -> None:
    found = checks.measured(STEM, toys.own())
    assert math.isclose(found["W5.N3.P1"], 0.8)
    assert found["W5.N3.P2"] == "saturated or medium"
    assert 0.5 < found["W5.N3.P3"] < 1
    assert math.isclose(found["W5.N3.P4"], 5.0)


@pytest.mark.parametrize("sizes", [(1,), (2,)])
def test_one_size_alone_measures_no_speedup(sizes: tuple[int, ...]) -> None:
    found = checks.measured(STEM, toys.own(sizes))
    assert found["W5.N3.P1"] is None
    assert found["W5.N3.P2"] is None
