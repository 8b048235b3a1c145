"""A small experiment with checks and a figure, for the tests of labs.course. `install()` registers it.

Its notebook is labs/tests/data/weeks/week9/01_toy.py. Nothing of it is registered outside the tests.
"""

import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import plotly.graph_objects as go

import labs.core.config
import labs.core.paths
from labs.cluster.processes import guarded
from labs.core.config import ExperimentConfig
from labs.core.errors import RunFailed, UserError
from labs.core.record import Gate, Record
from labs.course.checks import Check, compare
from labs.experiments import registry
from labs.experiments.base import Experiment, Part, Say
from labs.report import figure, theme
from labs.report.figure import Control, FigureSpec

STEM = "week9/01_toy"
WEEKS = Path(__file__).parent / "data" / "weeks"


class Config(ExperimentConfig):
    n: int
    tp: tuple[int, ...] | None = None


def prepare(config: Config) -> Config:
    if config.n % 2:
        raise UserError(f"n={config.n} is odd; use an even number")
    return config


def measure_sum(config: Config, say: Say) -> Part:
    began = time.perf_counter()
    total = sum(range(config.n))
    seconds = time.perf_counter() - began
    say(f"summed {config.n} numbers: {total}")
    gate = Gate(name="the formula's sum", passed=total == config.n * (config.n - 1) // 2)
    return Part(rows=[{"kind": "sum", "n": config.n, "seconds": seconds}], gates=[gate])


def measure_again(config: Config, say: Say) -> Part:
    return Part(rows=[{"kind": "again", "n": config.n, "seconds": None}])


def fail(config: Config, say: Say) -> Part:
    raise RunFailed("rank 1 of 2 failed: ValueError: no", details="Traceback of rank 1")


def mistake(config: Config, say: Say) -> Part:
    raise UserError("n=3 is odd; use an even number")


def bug(config: Config, say: Say) -> Part:
    raise ZeroDivisionError("oops")


def gate(config: Config, say: Say) -> Part:
    return Part(gates=[Gate(name="agreement", passed=False, value=2.0, tolerance=1.0)])


def wait(config: Config, say: Say) -> Part:
    with guarded("toy") as guard:
        child = guard.spawn([sys.executable, "-c", "import time; time.sleep(600)"])
        say(f"waiting for {child.pid}")
        child.wait()
    return Part()


def odd(config: Config, say: Say) -> str:
    try:
        prepare(config.model_copy(update={"n": 3}))
    except UserError as error:
        return str(error)
    raise AssertionError("an odd number was taken")


def summary(record: Record) -> list[dict[str, Any]]:
    return [{"n": row["n"], "seconds": row["seconds"]} for row in record.samples]


EXPERIMENT = Experiment(
    stem=STEM,
    command="toy",
    help="Sums numbers.",
    config=Config,
    parts={
        "sum": measure_sum,
        "again": measure_again,
        "fail": fail,
        "mistake": mistake,
        "bug": bug,
        "gate": gate,
        "wait": wait,
    },
    summary=summary,
    drills={"odd": odd},
    prepare=prepare,
)


def draw(records: Any, predictions: Any, scale: str = "linear") -> go.Figure:
    fig = go.Figure()
    for i, record in enumerate(records):
        rows = record.rows("sum")
        fig.add_scatter(
            x=[row["n"] for row in rows],
            y=[row["seconds"] for row in rows],
            name=figure.source_label(record),
            **theme.series_style(i, record.provenance.source),
        )
    figure.prediction_marker(fig, 4, figure.predicted(predictions, "W9.N1.P1"))
    return fig


def sentence(records: Any, predictions: Any, scale: str = "linear") -> str:
    return f"The sum was timed {len(records[0].rows('sum'))} time(s)."


def table(records: Any, predictions: Any, scale: str = "linear") -> figure.Table:
    return [{"n": row["n"], "seconds": row["seconds"]} for row in records[0].rows("sum")]


FIGURES = figure.registry(
    FigureSpec("sums", "Sums", draw, sentence, table, {"scale": Control("Axis", ("linear", "log"))})
)
CHECKS = {
    "W9.N1.C1": Check(2, lambda f: compare.function(f, [((8, 4, 1), (2, 4)), ((10, 4, 3), (7, 10))])),
    "W9.N1.Q1": Check(1, lambda x: compare.number(x, 10, hint="1 + 2 + 3 + 4")),
    "W9.N1.Q2": Check(1, lambda x: compare.choice(x, "b", {"a": "that is the product", "b": ""})),
}


def seconds_of(record: Record) -> float | None:
    return next(iter(record.values("sum", "seconds")), None)


def marked(mark: str) -> list[int]:
    """The processes that carry `TOY_RUN=mark` in the environment they were started with."""
    return [
        pid
        for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
        if f"TOY_RUN={mark}\0" in environ(pid)
    ]


def environ(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def install(setattr: Any = setattr, setitem: Any = dict.__setitem__) -> None:
    """Register the toy in this process; tests pass monkeypatch's functions, which undo it."""
    setattr(labs.core.paths, "WEEKS", WEEKS)
    setattr(labs.core.config, "WEEKS", WEEKS)
    setitem(registry.MODULES, STEM, __name__)
    checks, figures = ModuleType("checks"), ModuleType("figures")
    checks.__dict__.update(CHECKS=CHECKS, MEASURED={"W9.N1.P1": seconds_of})
    figures.__dict__.update(FIGURES=FIGURES)
    setitem(sys.modules, "labs.course.checks.week9.toy", checks)
    setitem(sys.modules, "labs.report.week9.toy", figures)
