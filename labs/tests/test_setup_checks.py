"""The checks of notebook 01: solutions pass, stubs are not attempted, typical mistakes get their hint."""

import math
from typing import Any

import pytest

from labs.course import build, checks
from labs.course.checks import Status, judge
from labs.course.checks.week5.tensor_parallel_setup import CHECKS, MEASURED
from labs.tests import setup_toys as toys
from labs.tests.exercises import answers

STEM = toys.STEM


def test_ids_and_points_of_source_and_checks_agree() -> None:
    assert build.audit(STEM) == []
    assert checks.load(STEM) is CHECKS
    assert set(MEASURED) == {exercise.id for exercise in build.exercises(STEM) if exercise.kind == "P"}


def test_solutions_pass_and_stubs_are_not_attempted() -> None:
    solved, stubs = answers(STEM, CHECKS, solved=True), answers(STEM, CHECKS, solved=False)
    assert set(solved) == set(stubs) == set(CHECKS)
    for name, check in CHECKS.items():
        assert judge(name, check, solved[name]).status is Status.PASS, name
        assert judge(name, check, stubs[name]).status is Status.NOT_ATTEMPTED, name


def cut(weight: Any, rank: int, ranks: int, axis: int) -> Any:
    if weight.shape[axis] % ranks:
        raise ValueError("a rest")
    step = weight.shape[axis] // ranks
    part = slice(rank * step, (rank + 1) * step)
    return weight[part] if axis == 0 else weight[:, part]


def swapped(weight: Any, rank: int, ranks: int, kind: str) -> Any:
    return cut(weight, rank, ranks, 1 if kind == "column" else 0)


def strided(weight: Any, rank: int, ranks: int, kind: str) -> Any:
    return weight[rank::ranks] if kind == "column" else weight[:, rank::ranks]


def whole_rows(weight: Any, rank: int, ranks: int, kind: str) -> Any:
    return cut(weight, rank, ranks, 0) if kind == "column" else weight


def always_first(weight: Any, rank: int, ranks: int, kind: str) -> Any:
    return cut(weight, 0, ranks, 0 if kind == "column" else 1)


def truncating(weight: Any, rank: int, ranks: int, kind: str) -> Any:
    axis = 0 if kind == "column" else 1
    return cut(weight[: weight.shape[0] // ranks * ranks], rank, ranks, axis)


def asserting(weight: Any, rank: int, ranks: int, kind: str) -> Any:
    assert weight.shape[0] % ranks == 0
    return cut(weight, rank, ranks, 0 if kind == "column" else 1)


def kv(rank: int, ranks: int, heads: int, kv_heads: int) -> list[int]:
    if heads % ranks or (kv_heads % ranks and ranks % kv_heads):
        raise ValueError("no")
    group = heads // kv_heads
    return sorted({head // group for head in range(rank * heads // ranks, (rank + 1) * heads // ranks)})


def kv_starved(rank: int, ranks: int, heads: int, kv_heads: int) -> list[int]:
    step = kv_heads // ranks
    return list(range(rank * step, (rank + 1) * step))


def kv_modulo(rank: int, ranks: int, heads: int, kv_heads: int) -> list[int]:
    return kv(rank, ranks, heads, kv_heads) if ranks <= kv_heads else [rank % kv_heads]


def kv_queries(rank: int, ranks: int, heads: int, kv_heads: int) -> list[int]:
    return list(range(rank * heads // ranks, (rank + 1) * heads // ranks))


def kv_unchecked(rank: int, ranks: int, heads: int, kv_heads: int) -> list[int]:
    group = heads // kv_heads
    return sorted({head // group for head in range(rank * heads // ranks, (rank + 1) * heads // ranks)})


def kv_heads_only(rank: int, ranks: int, heads: int, kv_heads: int) -> list[int]:
    if heads % ranks:
        raise ValueError("no")
    return kv_unchecked(rank, ranks, heads, kv_heads)


WRONG = [
    ("C1", swapped, "keeps all inputs"),
    ("C1", strided, "blocks must be contiguous"),
    ("C1", whole_rows, "every rank got the whole matrix"),
    ("C1", always_first, "another rank's block"),
    ("C1", truncating, "drop no remainder silently"),
    ("C1", lambda weight, rank, ranks, kind: weight[:1, :1], "into `ranks` blocks"),
    ("C2", kv_starved, "copy, do not starve"),
    ("C2", kv_modulo, "rank % kv_heads"),
    ("C2", kv_queries, "those are query heads"),
    ("C2", lambda rank, ranks, heads, kv_heads: list(range(kv_heads)), "every KV head"),
    ("C2", lambda rank, ranks, heads, kv_heads: [9], "first find this rank's query heads"),
    ("C2", kv_unchecked, "drop no remainder silently"),
    ("C2", kv_heads_only, "7 divides 28 heads, and yet 4 KV heads"),
    ("C3", lambda layers, ranks: 2 * layers if ranks > 1 else 0, "the embedding"),
    ("C3", lambda layers, ranks: layers + 1, "two in each layer"),
    ("C3", lambda layers, ranks: 2 * layers + 1, "a single rank"),
    ("C3", lambda layers, ranks: ranks * (2 * layers + 1), "does not grow with TP"),
    ("C3", lambda layers, ranks: 2 * layers + 2, "gathered, not added"),
    ("C3", lambda layers, ranks: -1, "how many row-parallel matrices"),
    ("Q1", 7168, "one sequence"),
    ("Q1", 256 * 3584 * 2 * 57, "one message is wanted"),
    ("Q1", 256 * 3584 * 2 / 2, "full hidden size on every rank"),
    ("Q1", 256 * 3584 * 2 / 4, "TP does not divide it"),
    ("Q1", 3_670_016, "bf16 has two bytes"),
    ("Q1", 1, "sequences × hidden size"),
    ("Q2", [1, 2, 4, 7], "18,944 / 7"),
    ("Q2", [1, 2, 4, 8], "28 heads / 8"),
    ("Q2", [1, 2, 4, 14], "look at the KV heads"),
    ("Q2", [2, 4], "every divisor of 28"),
]


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_a_typical_mistake_gets_its_hint(name: str, answer: Any, hint: str) -> None:
    found = judge(name, CHECKS[f"W5.N1.{name}"], answer)
    assert found.status is Status.WRONG, found.message
    assert hint in found.hint


def test_another_error_than_a_value_error_is_named() -> None:
    found = judge("C1", CHECKS["W5.N1.C1"], asserting)
    assert (found.status, found.points) == (Status.WRONG, 0)
    assert "raised AssertionError, a ValueError is wanted" in found.message


@pytest.mark.parametrize(("name", "answer"), [("C1", 5), ("C2", 5), ("Q1", "many"), ("Q2", 4), ("Q2", ["1"])])
def test_an_answer_of_the_wrong_form_is_wrong_not_an_error(name: str, answer: Any) -> None:
    assert judge(name, CHECKS[f"W5.N1.{name}"], answer).status is Status.WRONG


@pytest.mark.parametrize("answer", [(4, 2, 1), {1, 2, 4}, [1, 1, 2, 4]])
def test_order_and_kind_of_collection_do_not_matter(answer: Any) -> None:
    assert judge("Q2", CHECKS["W5.N1.Q2"], answer).status is Status.PASS


def test_what_was_measured_stands_beside_each_prediction() -> None:
    found = checks.measured(STEM, toys.own())
    assert math.isclose(found["W5.N1.P1"], 28)
    assert 50 < found["W5.N1.P2"] < 50.1
    assert math.isclose(found["W5.N1.P3"], 2)
    assert math.isclose(found["W5.N1.P4"], 100.0283, rel_tol=1e-5)
    assert math.isclose(found["W5.N1.P5"], 3e-3)


def test_one_size_alone_measures_start_up_and_nothing_else() -> None:
    found = checks.measured(STEM, toys.own((1,)))
    assert found.pop("W5.N1.P1") == pytest.approx(28)
    assert set(found.values()) == {None}
    assert set(checks.measured(STEM, toys.record([])).values()) == {None}
