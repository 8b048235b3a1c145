"""Checks: the four outcomes, the comparers, and that every exercise fails unsolved and passes solved."""

import ast
import functools
import math
from typing import Any
from unittest.mock import MagicMock

import numpy
import pytest

from labs.core.errors import UserError
from labs.core.record import Record
from labs.course import build, checks, notebook, source
from labs.course.checks import Check, Status, Verdict, compare, judge
from labs.course.checks.compare import choice, function, number, sequence
from labs.tests import toy


def outcome(run: Any, answer: Any) -> checks.Outcome:
    return judge("W9.N1.C1", Check(2, run), answer)


def stub(*arguments: Any) -> Any:
    raise NotImplementedError("W9.N1.C1")


def broken(a: int, b: int) -> float:
    return a / (b - b)


def test_the_four_outcomes() -> None:
    cases = [((1, 2), 3), ((2, 2), 4)]

    def run(answer: Any) -> Verdict:
        return function(answer, cases, hint="add them")

    right, wrong = outcome(run, lambda a, b: a + b), outcome(run, lambda a, b: a * b)
    assert (right.status, right.points, right.message) == (Status.PASS, 2, "all 2 cases")
    assert (wrong.status, wrong.points, wrong.hint) == (Status.WRONG, 0, "add them")
    assert wrong.message == "<lambda>(1, 2): the result is 2, expected 3 (1 of 2 cases right)"
    failed = outcome(run, broken)
    assert (failed.status, failed.points) == (Status.ERROR, 0)
    line = broken.__code__.co_firstlineno + 1
    assert failed.message == f"ZeroDivisionError: division by zero (line {line} of broken)"
    for answer in (stub, None, "", " ", [None, None], {"a": None}):
        assert outcome(run, answer).status is Status.NOT_ATTEMPTED


def test_an_answer_that_exits_is_an_error() -> None:
    assert outcome(lambda f: function(f, [((), 1)]), lambda: exit(3)).status is Status.ERROR


def test_an_answer_of_the_wrong_form() -> None:
    found = outcome(lambda x: Verdict(x["key"] > 1, "fine"), 3)
    assert found.status is Status.ERROR
    found = outcome(functools.partial(number, expected=[]), 1.0)  # type: ignore[arg-type]
    assert found.message.startswith("the check cannot use an answer of this form: TypeError")


def test_partial_points() -> None:
    found = outcome(lambda x: Verdict(False, "half of it", score=0.5), 1)
    assert (found.status, found.points) == (Status.WRONG, 1)


@pytest.mark.parametrize("answer", [14.0, 14, 14.1, numpy.float64(14), numpy.array(14.0)])
def test_number_right(answer: Any) -> None:
    assert number(answer, 14.0, unit="KiB").passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (14000, "factor of 1,000 too large"),
        (14 / 1024, "factor of 1,024 too small"),
        (112, "bits or bytes"),
        (20, "20 KiB is too large"),
        (1, "1 KiB is too small"),
        (-14, "sign"),
        (True, "a number is wanted"),
        ("14", "a number is wanted, found '14'"),
        (math.nan, "finite"),
        ([14], "a number is wanted"),
    ],
)
def test_number_wrong(answer: Any, message: str) -> None:
    found = number(answer, 14.0, unit="KiB", hint="two bytes")
    assert not found.passed
    assert message in found.message
    assert "14.0" not in found.message


def test_number_zero() -> None:
    assert number(0, 0).passed
    assert number(0.05, 0, tol=0.1).passed
    assert not number(0.2, 0, tol=0.1).passed


def test_choice() -> None:
    options = {"a": "that is TP=1", "b": ""}
    assert choice(" B ", "b", options).passed
    assert choice("a", "b", options).hint == "that is TP=1"
    assert "choose one of a, b" in choice("c", "b", options).message


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([1, 2, 4], "index [2] is 4"),
        ([1, 2], "the result has 2 entries, expected 3"),
        (numpy.array([1, 5, 3]), "index [1] is 5"),
        (7, "a sequence of 3 is expected"),
        ([1, True, 3], "index [1] is True"),
    ],
)
def test_first_wrong_index(answer: Any, message: str) -> None:
    found = sequence(answer, [1, 2, 3])
    assert message in found.message
    assert "expected 2" not in found.message


def test_sequences_nested_and_with_tolerance() -> None:
    assert sequence(((1, 2.0001), (3, 4)), [[1, 2], [3, 4]], tol=1e-3).passed
    assert (
        "index [1][0] is 9, expected 3" in sequence([[1, 2], [9, 4]], [[1, 2], [3, 4]], reveal=True).message
    )
    assert sequence({"a": [1]}, {"a": [1]}).passed
    assert "index ['a'][0] is 2" in sequence({"a": [2]}, {"a": [1]}).message
    assert "expected the keys a" in sequence({"b": 1}, {"a": 1}).message


def test_a_true_for_everything_does_not_pass() -> None:
    class Yes:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    assert not number(Yes(), 1).passed
    assert not sequence([Yes()], [1]).passed
    assert not sequence([Yes()], ["a"]).passed
    assert not function(lambda: Yes(), [((), 1)]).passed


def test_function_hint_from_the_case() -> None:
    found = function(lambda n: n, [((3,), 6)], hint=lambda arguments, got: f"{arguments[0]} twice, not {got}")
    assert found.hint == "3 twice, not 3"
    assert function(3, []).message == "a function is wanted, found 3"


def test_no_module_no_checks() -> None:
    assert checks.load("week8/01_nothing") == {}
    with pytest.raises(UserError, match=r"has no check 'W8.N1.C1'; it has none"):
        checks.find("week8/01_nothing", "W8.N1.C1")


def test_audit_holds_cells_and_checks_together(monkeypatch: pytest.MonkeyPatch) -> None:
    toy.install(monkeypatch.setattr, monkeypatch.setitem)
    root = toy.WEEKS.parent
    assert build.audit(toy.STEM, root) == []
    monkeypatch.setitem(toy.CHECKS, "W9.N1.C1", Check(5, lambda x: Verdict(True, "")))
    monkeypatch.setitem(toy.CHECKS, "W9.N1.C9", Check(5, lambda x: Verdict(True, "")))
    monkeypatch.delitem(toy.CHECKS, "W9.N1.Q1")
    found = "\n".join(build.audit(toy.STEM, root))
    assert "W9.N1.C1 has 2 points, its Check 5" in found
    assert "W9.N1.C9 has no cell" in found
    assert "W9.N1.Q1 has no entry in CHECKS" in found


def statuses(stem: str, solved: bool, root: Any) -> dict[str, Status]:
    """Run a copy's cells with a Lab that only judges; cells which need a real one may fail."""
    judged: dict[str, Status] = {}

    def check(name: str, answer: Any) -> None:
        judged[name] = judge(name, checks.find(stem, name), answer).status

    lab = MagicMock()
    lab.check.side_effect = check
    namespace: dict[str, Any] = {}
    for cell in source.read(root / "weeks" / f"{stem}.py", stem):
        if cell.kind == "code":
            text = source.solved(cell) if solved else source.stripped(cell)
            graded = cell.grade_id or notebook.checked(cell)
            opens = "course.open(" in text
            try:
                exec(compile(ast.parse(text), cell.where(stem), "exec"), namespace)
            except Exception:
                if graded and not opens:
                    raise
            if opens:
                namespace["lab"] = lab
    return judged


SOURCES = [(stem, None) for stem in build.stems()] + [(toy.STEM, toy.WEEKS.parent)]


@pytest.mark.parametrize(("stem", "root"), SOURCES, ids=[stem for stem, _ in SOURCES])
def test_every_exercise_fails_unsolved_and_passes_solved(
    stem: str, root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = root or build.ROOT
    if stem == toy.STEM:
        toy.install(monkeypatch.setattr, monkeypatch.setitem)
    monkeypatch.setattr("labs.course.lab.open", MagicMock())
    monkeypatch.setattr("labs.course.open", MagicMock())
    wanted = {exercise.id for exercise in build.exercises(stem, root) if exercise.kind in "CQ"}
    solved, unsolved = statuses(stem, True, root), statuses(stem, False, root)
    assert solved == dict.fromkeys(wanted, Status.PASS)
    assert set(unsolved) == wanted
    assert Status.PASS not in unsolved.values()
    assert build.audit(stem, root) == []


@pytest.mark.parametrize("stem", [stem for stem, _ in SOURCES])
def test_what_was_not_measured_is_none(stem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if stem == toy.STEM:
        toy.install(monkeypatch.setattr, monkeypatch.setitem)
    empty = Record.new(
        stem, config={}, samples=[], seconds=None, weights="tiny", model="tiny", profile="cpu", hardware={}
    )
    for record in (empty, None):
        assert set(checks.measured(stem, record).values()) <= {None}


def test_compare_is_reachable_from_checks() -> None:
    assert checks.compare is compare
