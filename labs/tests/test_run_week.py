"""Running notebooks: results and limits, failures that stop nothing else, and no process left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labs.core import paths
from labs.core.errors import UserError
from labs.core.record import Record
from labs.course import build, run_notebook, run_week
from labs.course.answers import Store
from labs.course.run_notebook import Result
from labs.tests import toy

MEASURE = 'lab.measure("sum", after="W9.N1.P1")'


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    shutil.copytree(toy.WEEKS, tmp_path / "weeks")
    toy.install(monkeypatch.setattr, monkeypatch.setitem)
    monkeypatch.setattr(paths, "WEEKS", tmp_path / "weeks")
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setenv("LABS_RUNS", str(tmp_path / "runs"))
    for name in ("LABS_REVEAL", "LABS_STRICT", "LABS_LEARNER", "COURSE_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TOY_RUN", str(tmp_path))  # marks what a test starts
    build.build(root=tmp_path)
    yield tmp_path
    assert toy.marked(str(tmp_path)) == []
    assert list((tmp_path / "runs").glob(".run-*")) == []


def variant(root: Path, cell: str) -> None:
    """Put `cell` in the place of the measurement and build again."""
    path = root / "weeks" / "week9" / "01_toy.py"
    path.write_text(path.read_text().replace(MEASURE, cell))
    build.build(root=root)


def run(root: Path, copy: str = "notebooks", wall: float = 90, cell: float = 60) -> Result:
    path = root / copy / "week9" / "01_toy.ipynb"
    return run_notebook.run(path, toy.STEM, {"PROFILE": "cpu"}, wall_seconds=wall, cell_seconds=cell)


def outputs(path: Path | None) -> str:
    assert path is not None
    cells = json.loads(path.read_text())["cells"]
    found = [output for cell in cells for output in cell.get("outputs", [])]
    return "\n".join("".join(output.get("data", {}).get("text/plain", "")) for output in found)


def test_a_week_ends_in_a_table_and_a_report(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = Store(toy.STEM)
    store.predict("W9.N1.P1", 7, "s", "mine")
    assert run_week.run_week("week9", profile="cpu", tp=[1]) == 0
    out, err = capfd.readouterr()
    runs = root / "runs"
    assert "week9/01_toy  ok" in out
    assert "0/5" in out
    assert "15/15 cells" in err
    assert "encryption" not in out + err
    assert "measured on CPU" in out
    record = Record.load(runs / "week9" / "01_toy.json")
    assert record.config["tp"] == [1]
    assert record.provenance.source == "measured"
    repeat = "python -m labs run week9 --notebook 01 --profile cpu --tp 1"
    assert record.provenance.command == repeat
    executed = json.loads((runs / "week9" / "01_toy.ipynb").read_text())
    injected = [c for c in executed["cells"] if "injected-parameters" in c["metadata"].get("tags", [])]
    assert "".join(injected[0]["source"]).splitlines()[1:] == ['PROFILE = "cpu"', "TP = [1]"]
    assert "widgets" not in executed["metadata"]
    assert "(no prediction given)" in outputs(runs / "week9" / "01_toy.ipynb")
    report = (runs / "week9" / "report.html").read_text()
    assert str(runs / "week9" / "report.html") in out
    assert "01_toy" in report
    assert Store(toy.STEM).answers == store.answers  # the learner's own, untouched
    assert sorted(path.name for path in runs.iterdir()) == ["answers", "week9"]


def test_the_solved_copy_gets_all_points(root: Path) -> None:
    result = run(root, "solutions")
    assert (result.status, result.message, result.points) == ("ok", "", (5, 5))


def test_a_failed_measurement_fails_the_notebook(root: Path) -> None:
    variant(root, 'lab.measure("fail")')
    result = run(root)
    assert result.status == "failed"
    assert result.message == "Measure fail: rank 1 of 2 failed: ValueError: no"
    assert result.details == "Traceback of rank 1"
    assert result.record is None
    assert "Scoreboard of week9/01_toy" in outputs(result.notebook)  # later cells ran


def test_a_cell_that_raises(root: Path) -> None:
    variant(root, "1 / 0")
    result = run(root)
    assert result.status == "failed"
    assert result.message.endswith("ZeroDivisionError: division by zero")
    assert result.notebook == root / "runs" / "week9" / "01_toy.ipynb"


def test_a_kernel_that_dies(root: Path) -> None:
    variant(root, "import os\n\nos._exit(3)")
    result = run(root)
    assert (result.status, result.message) == ("failed", "the notebook's kernel died")


def test_a_cell_past_its_limit_is_interrupted(root: Path) -> None:
    variant(root, 'lab.measure("wait")')
    result = run(root, cell=4)
    assert result.status == "failed"
    assert result.message.endswith("was interrupted at its time limit")
    assert "interrupted, " in outputs(result.notebook)


def test_a_notebook_past_its_limit_is_ended(root: Path) -> None:
    earlier = root / "runs" / "week9" / "01_toy.ipynb"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("earlier")
    variant(root, "import time\n\ntry:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    time.sleep(600)")
    result = run(root, wall=8, cell=3)  # the cell swallows the interrupt: only the outer limit ends it
    assert (result.status, result.record) == ("timed out", None)
    assert result.message == "not done after 8 s; ended"
    assert result.notebook == earlier.with_name("01_toy.unfinished.ipynb")
    assert earlier.read_text() == "earlier"


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_leaves_no_process(root: Path, tmp_path: Path, sent: signal.Signals) -> None:
    """The runner is killed, or gets Ctrl-C, while the notebook's measurement has a process of its own."""
    variant(root, 'lab.measure("wait")')
    code = (
        "from pathlib import Path\n"
        "from labs.course import run_notebook\n"
        f"run_notebook.run(Path({str(root / 'notebooks/week9/01_toy.ipynb')!r}), {toy.STEM!r}, {{}},"
        " wall_seconds=300, cell_seconds=300)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(paths.ROOT)}
    runner = subprocess.Popen([sys.executable, "-c", code], env=env, start_new_session=True)

    def family() -> list[int]:
        return toy.marked(str(tmp_path))

    def waiting() -> bool:
        return any("time.sleep(600)" in command(pid) for pid in family())

    until(waiting)
    assert len(family()) >= 4  # the runner, papermill, the kernel, the measurement's child
    os.kill(runner.pid, sent)
    runner.wait(30)
    until(lambda: not family(), 30)
    run_notebook.clear_scratch()


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def test_one_failure_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], root: Path
) -> None:
    for name in ("02_b", "03_c"):
        shutil.copy(root / "notebooks/week9/01_toy.ipynb", root / f"notebooks/week9/{name}.ipynb")
        shutil.copy(root / "weeks/week9/01_toy.py", root / f"weeks/week9/{name}.py")
        monkeypatch.setitem(run_week.registry.MODULES, f"week9/{name}", toy.__name__)
    (root / "notebooks/week9/03_c.ipynb").write_text("{")
    seen = []

    def fake(path: Path, stem: str, parameters: dict[str, Any], **limits: Any) -> Result:
        seen.append((stem, parameters))
        first = stem == toy.STEM
        return Result(stem, "failed" if first else "ok", 1, path, None, "it broke" if first else "")

    monkeypatch.setattr(run_notebook, "run", fake)
    assert run_week.run_week("week9", profile="cpu", model="tiny") == 1
    assert seen == [(f"week9/{name}", {"PROFILE": "cpu", "MODEL": "tiny"}) for name in ("01_toy", "02_b")]
    out = capsys.readouterr().out
    assert "week9/01_toy failed: it broke (see " in out
    assert "week9/03_c failed: notebooks/week9/03_c.ipynb is not a notebook" in out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"week": "week7"}, "unknown week 'week7'"),
        ({"notebook": "04"}, "no notebook of week9 begins with '04'; there are week9/01_toy"),
        ({"profile": "quantum"}, "unknown profile 'quantum'"),
        ({"model": "/nowhere"}, "no model folder '/nowhere'"),
    ],
)
def test_bad_settings_end_before_anything_starts(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        run_week.run_week(**{"week": "week9", "profile": "cpu", **settings})
    assert message in str(caught.value)


def test_a_notebook_that_was_not_built(root: Path) -> None:
    shutil.rmtree(root / "notebooks")
    with pytest.raises(UserError, match=r"is not built; run `make notebooks`"):
        run_week.select("week9", "01")


def nbval(root: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval-lax",
        "--nbval-current-env",
        "--nbval-cell-timeout=60",
    ]
    plugin = [
        "-p",
        "labs.tests.nbval_env",
        "-p",
        "no:cacheprovider",
        "-c",
        str(paths.ROOT / "pyproject.toml"),
    ]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("LABS_", "PYTEST_"))}
    return subprocess.run(
        [*command, *plugin, "--rootdir", str(root), str(root / "solutions")],
        env={**env, "PYTHONPATH": str(paths.ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        cwd=root,
    )


def test_nbval_passes_on_solutions(root: Path) -> None:
    done = nbval(root)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
    assert not (root / "runs").exists() or not list((root / "runs").iterdir())


def test_nbval_fails_on_a_wrong_answer_and_on_a_failed_measurement(root: Path) -> None:
    variant(root, 'lab.measure("fail")')
    path = root / "solutions" / "week9" / "01_toy.ipynb"
    path.write_text(path.read_text().replace("answer = 10", "answer = 11"))
    done = nbval(root)
    assert done.returncode == 1
    assert "rank 1 of 2 failed: ValueError: no" in done.stdout
    assert "W9.N1.Q1: wrong: 11 is too large" in done.stdout
    assert "2 failed" in done.stdout
