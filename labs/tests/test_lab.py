"""The Lab as a notebook uses it: predictions first, clear failures, answers that outlive the kernel."""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from labs import course
from labs.cluster import processes
from labs.core.errors import RunFailed, UserError
from labs.core.record import Record
from labs.course import records, score
from labs.course.answers import Store
from labs.course.checks import Status
from labs.course.lab import Lab
from labs.course.running import CheckFailed, Interrupted
from labs.tests import toy

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    toy.install(monkeypatch.setattr, monkeypatch.setitem)
    monkeypatch.setenv("LABS_RUNS", str(tmp_path))
    for name in ("LABS_REVEAL", "LABS_STRICT", "LABS_LEARNER", "COURSE_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TOY_RUN", str(tmp_path))  # marks what a test starts
    yield tmp_path
    assert toy.marked(str(tmp_path)) == []


def open_lab(**overrides: object) -> Lab:
    return course.open(toy.STEM, profile="cpu", **overrides)  # type: ignore[arg-type]


def shard_rows(rows: int, ranks: int, rank: int) -> tuple[int, int]:
    return rows * rank // ranks, rows * (rank + 1) // ranks


def test_open_shows_the_environment(capsys: Capture) -> None:
    lab = open_lab()
    out = capsys.readouterr().out
    assert "week9/01_toy" in out
    assert "tiny" in out
    assert lab.record is None
    assert [exercise.id for exercise in lab.exercises][:2] == ["W9.N1.P1", "W9.N1.C1"]


def test_a_measurement_waits_for_its_prediction(capsys: Capture, runs: Path) -> None:
    lab = open_lab()
    lab.predict("W9.N1.P1", None, unit="s", because="")
    lab.measure("sum", after="W9.N1.P1")
    kept = records.own(toy.STEM)
    lab.measure("sum", after="W9.N1.P1")
    assert records.own(toy.STEM) == kept  # what waits is not measured again
    lab.figure("sums", after="W9.N1.P1")
    lab.explore("sums", after="W9.N1.P1")
    out = capsys.readouterr().out
    assert out.count("Hidden until you predict: give W9.N1.P1 a value") == 4
    assert "summed" not in out
    assert "seconds" not in out
    assert kept is not None
    open_lab(n=6).measure("sum", after="W9.N1.P1")
    other = records.own(toy.STEM)
    assert other is not None
    assert other.config["n"] == 6  # other settings are
    kept.save(records.path(toy.STEM))

    lab.predict("W9.N1.P1", 0.5, unit="s", because="one addition")
    lab.measure("sum", after="W9.N1.P1")  # shows what waits, without running again
    lab.figure("sums", after="W9.N1.P1")
    out = capsys.readouterr().out
    assert records.own(toy.STEM) == kept
    assert "you predict 0.5 s, because: one addition" in out
    assert "you said 0.5 s" in out
    assert "The sum was timed 1 time(s)." in out

    lab.measure("sum", after="W9.N1.P1")
    assert "summed 4 numbers: 6" in capsys.readouterr().out


def test_reveal_shows_without_a_prediction(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABS_REVEAL", "1")
    lab = open_lab()
    lab.measure("sum", after="W9.N1.P1")
    lab.figure("sums", after="W9.N1.P1")
    out = capsys.readouterr().out
    assert "week9/01_toy: sum (no prediction given)" in out
    assert "The sum was timed 1 time(s)." in out


def test_a_prediction_that_was_compared_stays(capsys: Capture) -> None:
    lab = open_lab()
    lab.predict("W9.N1.P1", 1.0, unit="s", because="a guess")
    lab.predict("W9.N1.P1", 2.0, unit="s", because="a better guess")
    lab.measure("sum", after="W9.N1.P1")
    lab.predict("W9.N1.P1", 3e-7, unit="s", because="what I saw")
    entry = lab.store.answers.predictions["W9.N1.P1"]
    assert (entry.value, entry.later, entry.because) == (2.0, 3e-7, "a better guess")
    assert "The measurement was already shown, so this stays" in capsys.readouterr().out


def test_parts_gather_in_one_record(runs: Path) -> None:
    lab = open_lab()
    lab.measure("sum")
    lab.measure("again")
    record = Record.load(runs / "week9" / "01_toy.json")
    assert {row["part"] for row in record.samples} == {"sum", "again"}
    assert lab.record == record
    open_lab(n=6).measure("sum")
    again = Record.load(runs / "week9" / "01_toy.json")
    assert [row["n"] for row in again.samples] == [6]  # other settings start afresh


@pytest.mark.parametrize(
    ("part", "message", "kind"),
    [
        ("fail", "rank 1 of 2 failed: ValueError: no", RunFailed),
        ("mistake", "n=3 is odd; use an even number", UserError),
        ("gate", "correctness gate failed, agreement: found 2, at most 1 passes", RunFailed),
        ("bug", "ZeroDivisionError: oops (a fault of the lab package", ZeroDivisionError),
        ("nothing", "has no part 'nothing'; it has sum, again", UserError),
    ],
)
def test_a_failed_part_is_one_message(
    part: str, message: str, kind: type[Exception], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = open_lab()
    lab.measure(part)
    out = capsys.readouterr().out
    assert message in out
    assert f"FAILED Measure {part}" in out
    assert lab.record is None
    lab.figure("sums")  # later cells say what is missing
    assert "No run yet" in capsys.readouterr().out
    monkeypatch.setenv("LABS_STRICT", "1")
    with pytest.raises(kind):
        lab.measure(part)


def test_settings_that_cannot_be_used(capsys: Capture) -> None:
    lab = open_lab(n=3)
    lab.measure("sum")
    lab.drill("odd")
    lab.check("W9.N1.Q1", 10)
    out = capsys.readouterr().out
    assert "FAILED Settings\nn=3 is odd; use an even number" in out
    assert out.count("the lab is not open") == 2
    assert "W9.N1.Q1: PASS" in out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"profile": "quantum"}, "unknown profile 'quantum'"),
        ({"model": "/nowhere"}, "no model folder '/nowhere'"),
        ({"colour": 1}, "colour: Extra inputs are not permitted"),
    ],
)
def test_settings_of_every_kind(settings: dict[str, str], message: str, capsys: Capture) -> None:
    lab = course.open(toy.STEM, **{"profile": "cpu", **settings})  # type: ignore[arg-type]
    assert lab.config is None
    assert message in capsys.readouterr().out


def test_one_tp_counts_as_a_list() -> None:
    config = open_lab(tp=2).config
    assert isinstance(config, toy.Config)
    assert config.tp == (2,)


def test_the_outcomes_of_a_check(capsys: Capture) -> None:
    lab = open_lab()
    lab.check("W9.N1.Q1", None)
    lab.check("W9.N1.Q1", 24)
    lab.check("W9.N1.C1", lambda rows, ranks, rank: 1 / 0)
    lab.check("W9.N1.C1", shard_rows)
    lab.check("W9.N1.C8", 1)
    out = capsys.readouterr().out
    assert "W9.N1.Q1: NOT ATTEMPTED" in out
    assert "W9.N1.Q1: WRONG" in out
    assert "Hint: 1 + 2 + 3 + 4" in out
    assert "W9.N1.C1: ERROR\n  ZeroDivisionError: division by zero" in out
    assert "W9.N1.C1: PASS" in out
    assert "has no check 'W9.N1.C8'" in out


def test_strict_raises_what_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABS_STRICT", "1")
    lab = open_lab()
    with pytest.raises(CheckFailed, match=r"W9.N1.Q1: not attempted"):
        lab.check("W9.N1.Q1", None)
    with pytest.raises(UserError, match=r"the prediction W9.N1.P1 is missing"):
        lab.figure("sums", after="W9.N1.P1")
    with pytest.raises(UserError, match=r"has no 'W9.N1.P7'"):
        lab.predict("W9.N1.P7", 1)


def test_answers_outlive_the_kernel(runs: Path) -> None:
    lab = open_lab()
    lab.predict("W9.N1.P1", 0.5, unit="s", because="one addition")
    lab.check("W9.N1.Q1", 10)
    lab.explain("W9.N1.E1", "It is short.")
    later = open_lab()
    later.check("W9.N1.Q1", None)  # a stub that runs again erases nothing
    later.predict("W9.N1.P1", None)
    later.explain("W9.N1.E1", "")
    assert later.store.answers == lab.store.answers
    assert later.store.answers.scores["W9.N1.Q1"].status is Status.PASS
    assert later.store.answers.explanations["W9.N1.E1"].text == "It is short."
    assert Store(toy.STEM, "somebody").answers.predictions == {}
    assert (runs / "answers" / "me" / "week9" / "01_toy.json").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"notebook": "week9/02_other"}', b"\xff\xfe"])
def test_a_broken_answers_file_is_set_aside(text: str | bytes, runs: Path, capsys: Capture) -> None:
    path = runs / "answers" / "me" / "week9" / "01_toy.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    lab = open_lab()
    assert "could not be read; the file is kept as 01_toy.broken-" in capsys.readouterr().out
    lab.check("W9.N1.Q1", 10)
    assert len(list(path.parent.glob("01_toy.broken-*.json"))) == 1
    assert json.loads(path.read_text())["scores"]["W9.N1.Q1"]["points"] == 1


def test_a_broken_record_is_set_aside(runs: Path, capsys: Capture) -> None:
    path = runs / "week9" / "01_toy.json"
    path.parent.mkdir()
    path.write_text("{}")
    lab = open_lab()
    lab.figure("sums")
    assert "is not a Record of schema" in capsys.readouterr().out
    lab.measure("sum")
    assert "that file is kept as 01_toy.broken-" in capsys.readouterr().out
    assert Record.load(path).experiment == toy.STEM


@pytest.mark.parametrize("value", [float("nan"), {1, 2}])
def test_a_prediction_that_cannot_be_kept(value: object, capsys: Capture) -> None:
    lab = open_lab()
    lab.predict("W9.N1.P1", value)
    assert "a prediction is a number or a short text" in capsys.readouterr().out
    assert lab.store.answers.predictions == {}


def test_recorded_runs_stand_beside_the_own(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = open_lab()
    lab.measure("sum")
    assert lab.record is not None
    monkeypatch.setattr("labs.course.records.recorded_dir", lambda week: tmp_path / "recorded")
    lab.record.as_recorded("from elsewhere").save(tmp_path / "recorded" / "01_toy.other.json")
    (tmp_path / "recorded" / "01_toy.broken.json").write_text("{}")
    capsys.readouterr()
    assert [record.provenance.source for record in lab.recorded()] == ["recorded"]
    assert "01_toy.broken.json is not a Record" in capsys.readouterr().out


def test_drill_shows_its_message(capsys: Capture) -> None:
    lab = open_lab()
    lab.drill("odd")
    lab.drill("even")
    out = capsys.readouterr().out
    assert "DRILL odd\nn=3 is odd; use an even number" in out
    assert "has no drill 'even'; it has odd" in out


def test_scoreboard(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "leftovers", list)  # those of other programs on this machine do not count
    lab = open_lab(price_per_hour=3600)
    lab.measure("sum")
    lab.scoreboard()
    out = capsys.readouterr().out
    assert "0 of 5 points" in out
    assert "shown after your prediction" in out
    lab.predict("W9.N1.P1", 0.5, unit="s", because="one addition")
    lab.check("W9.N1.C1", shard_rows)
    lab.check("W9.N1.Q1", 11)
    lab.explain("W9.N1.E1", "It is short.")
    lab.scoreboard()
    out = capsys.readouterr().out
    assert "3 of 5 points" in out
    assert "1 of 1 explanations written" in out
    assert "No process of a run is left." in out
    assert "at 3600 an hour" in out
    assert lab.record is not None
    left = processes.Leftover(pid=7, run="toy-1-2-3", command="python -m rank")
    monkeypatch.setattr(processes, "leftovers", lambda: [left])
    lab.scoreboard()
    assert "Still running: 7 python -m rank" in capsys.readouterr().out
    row = score.predictions(lab.exercises, lab.store.answers, {"W9.N1.P1": 0.25})[0]
    assert (row["predicted"], row["measured"], row["measured/predicted"]) == (0.5, 0.25, 0.5)


def test_a_prediction_without_a_reason_has_no_points() -> None:
    lab = open_lab()
    lab.predict("W9.N1.P1", 0.5)
    assert score.points(lab.exercises, lab.store.answers) == (0, 5)


def test_an_interrupt_ends_the_run_and_leaves_the_lab_usable(capsys: Capture) -> None:
    lab = open_lab()

    def interrupt() -> None:
        me = psutil.Process()
        while not any(
            "time.sleep(600)" in " ".join(_command(child)) for child in me.children(recursive=True)
        ):
            time.sleep(0.05)
        os.kill(me.pid, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(Interrupted) as caught:
        lab.measure("wait")
    assert caught.value._render_traceback_()[0].startswith(
        "interrupted: every process of the run has been ended"
    )
    out = capsys.readouterr().out
    child = int(out.split("waiting for ")[1].split()[0])
    assert not psutil.pid_exists(child)
    lab.measure("sum")
    assert lab.record is not None


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []
