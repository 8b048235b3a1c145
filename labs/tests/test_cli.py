"""The command line: a mistake in the call is one line and exit code 2; nothing has been started."""

import json
import os
import signal
from typing import Any

import pytest

from labs.cli import main, table
from labs.core import config
from labs.core.errors import RunFailed, UserError
from labs.core.record import Record
from labs.experiments import base, registry

MISTAKES = {
    "TP does not divide": (
        ["scaling", "--profile", "cpu", "--tp", "3"],
        "TP=3 does not divide 8 attention heads",
    ),
    "the same TP twice": (["scaling", "--profile", "cpu", "--tp", "2", "2"], "wants different sizes"),
    "TP is no number": (["scaling", "--tp", "two"], "invalid int value: 'two'"),
    "missing model folder": (["scaling", "--model", "/nowhere/at/all"], "no model folder '/nowhere/at/all'"),
    "unknown profile": (["scaling", "--profile", "tpu"], "unknown profile 'tpu'; use auto, cpu or gpu"),
    "output in no folder": (["scaling", "--out", "/nowhere/at/all.json"], "cannot write the Record"),
    "unknown command": (["scalin"], "invalid choice: 'scalin'"),
    "no command": ([], "required: COMMAND"),
    "unknown part": (["scaling", "--part", "latency"], "has no part 'latency'; it has scaling"),
    "unknown week": (["run", "week99"], "unknown week 'week99'"),
    "no such Record": (["keep", "/nowhere/at/all.json", "--name", "x"], "cannot read the Record"),
    "output that no file system takes": (["scaling", "--out", "/proc/x.json"], "cannot write the Record"),
    "no time at all": (["scaling", "--timeout", "0"], "timeout_s: Input should be greater than 0"),
    "time without end": (["concurrent", "--timeout", "inf"], "timeout_s: Input should be a finite number"),
    "a name that is a path": (["keep", "r.json", "--name", "../x"], "--name wants letters, digits"),
    "bad number of repeats": (["scaling", "--all-reduce-repeats", "1"], "greater than or equal to 5"),
}


@pytest.mark.parametrize(("argv", "says"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(argv, says, capsys):
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert says in printed.err


def test_gpus_that_are_not_there(capsys, monkeypatch):
    from labs.cluster import hardware

    here = hardware.detect()
    monkeypatch.setattr(hardware, "detect", lambda: here.model_copy(update={"gpus": []}))
    assert main(["scaling", "--profile", "gpu"]) == 2
    assert "needs a GPU" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cpu: {03_scaling_benchmark: {tp: [1, 2]", "not valid YAML"),
        ("- just\n- a list\n", "must hold the profiles"),
        ("cpu: {}\n", "has no settings for 03_scaling_benchmark"),
        ("cpu: nope\n", "has no settings for 03_scaling_benchmark"),
        ("cpu:\n\tmodel: tiny\n", "cannot start any token"),
        ("cpu: \udcff\n", "not UTF-8 text"),
        ("cpu: {03_scaling_benchmark: {gpus: 4}}\n", "gpus: Extra inputs are not permitted"),
        ("cpu: {03_scaling_benchmark: {saturated: lots}}\n", "saturated"),
    ],
)
def test_a_broken_config_file_is_one_line_that_names_the_file(text, says, tmp_path, monkeypatch, capsys):
    (tmp_path / "week5").mkdir()
    (tmp_path / "week5" / "config.yaml").write_text(text, errors="surrogateescape")
    monkeypatch.setattr(config, "WEEKS", tmp_path)
    assert main(["scaling", "--profile", "cpu"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "config.yaml" in err
    assert says in err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a Record of schema"),
        (json.dumps({"schema_version": "labs.record/9"}), "found 'labs.record/9'"),
        (json.dumps({"schema_version": "labs.record/1", "experiment": "x"}), "broken Record"),
    ],
)
def test_a_broken_record_is_one_line_that_names_the_file(text, says, tmp_path, capsys):
    path = tmp_path / "broken.json"
    path.write_text(text)
    assert main(["keep", str(path), "--name", "x"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "broken.json" in err
    assert says in err


def test_a_failed_run_is_exit_code_1_with_the_details_before_its_one_line(monkeypatch, capsys):
    def fail(*_: object, **__: object) -> None:
        raise RunFailed("rank 1 of 2 failed: ValueError: wrong", "Traceback of rank 1")

    monkeypatch.setattr(base, "run", fail)
    assert main(["scaling", "--profile", "cpu"]) == 1
    assert capsys.readouterr().err == "Traceback of rank 1\nfailed: rank 1 of 2 failed: ValueError: wrong\n"


@pytest.mark.parametrize("given", [{"concurrency": [0, 2]}, {"load_factors": [-1.0]}])
def test_a_load_of_nobody_is_refused_before_a_server_starts(given):
    experiment = registry.find("week5/02_concurrent_requests")
    with pytest.raises(UserError, match="should be greater than 0"):
        config.load(experiment.config, experiment.stem, "cpu", **given)


def test_a_recorded_runs_name_cannot_leave_its_folder(tmp_path, capsys):
    stem, about = "week5/03_scaling_benchmark", {"seconds": 1.0, "weights": "tiny", "model": "tiny"}
    found: Any = {"config": {}, "samples": [], "profile": "cpu", "hardware": {}, **about}
    path = Record.new(stem, **found).save(tmp_path / "record.json")
    for name in ("", "../x", "a/b", ".hidden"):
        assert main(["keep", str(path), "--name", name]) == 2
        assert "--name wants letters" in capsys.readouterr().err


@pytest.mark.parametrize("under", ["", "/below"])
def test_a_folder_for_runs_that_is_a_file_is_one_line(under, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LABS_RUNS", f"{tmp_path}/file{under}")
    for argv in (["scaling", "--profile", "cpu"], ["run", "week5"]):
        assert main(argv) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("error: cannot keep runs in ")
        assert printed.err.count("\n") == 1


def test_the_timeout_is_a_flag_of_every_experiment(monkeypatch, capsys):
    def run(_: object, settings: Any, *rest: object, **more: object) -> None:
        raise RunFailed(f"it may take {settings.timeout_s} s")

    monkeypatch.setattr(base, "run", run)
    for experiment in registry.all_experiments():
        assert main([experiment.command, "--profile", "cpu", "--timeout", "7.5"]) == 1
        assert capsys.readouterr().err == "failed: it may take 7.5 s\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_it_is_one_line(number, monkeypatch, capsys):
    before = signal.signal(number, signal.SIG_DFL)  # under nohup the tests themselves ignore SIGHUP
    try:
        monkeypatch.setattr(base, "run", lambda *_, **__: os.kill(os.getpid(), number))
        assert main(["scaling", "--profile", "cpu"]) == 128 + number
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    said = f"ended by {number.name}: every process of the run has been ended\n"
    assert capsys.readouterr().err == said


def test_what_nohup_ignores_stays_ignored(monkeypatch):
    def hang_up(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        raise RunFailed("still here")

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(base, "run", hang_up)
        assert main(["scaling", "--profile", "cpu"]) == 1
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_is_one_line_and_exit_code_130(monkeypatch, capsys):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(base, "run", interrupt)
    assert main(["scaling", "--profile", "cpu"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_every_experiment_has_settings_for_both_profiles():
    for experiment in registry.all_experiments():
        for profile in config.PROFILES:
            assert config.load(experiment.config, experiment.stem, profile).profile == profile


def test_the_table_shows_what_was_not_measured():
    text = table([{"TP": 1, "tok/s": 1234.5}, {"TP": 2, "tok/s": None}])
    assert "not measured" in text
    assert "1,234" in text
