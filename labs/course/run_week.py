"""`python -m labs run week5`: every notebook of a week, then a summary table and an HTML report."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labs.cluster import hardware
from labs.core import paths
from labs.core.errors import UserError
from labs.core.paths import runs_dir
from labs.course import build, records, run_notebook, setup
from labs.course.run_notebook import Result
from labs.experiments import registry
from labs.report import figure, html
from labs.report.markup import text_table

WALL_SECONDS = 3600.0  # of one notebook
CELL_SECONDS = 1800.0  # of a cell that sets none; loading a large model at four TP sizes takes minutes


def run_week(
    week: str,
    profile: str = "auto",
    model: str | None = None,
    tp: Sequence[int] | None = None,
    notebook: str | None = None,
    *,
    wall_seconds: float = WALL_SECONDS,
    cell_seconds: float = CELL_SECONDS,
) -> int:
    """Run the week's notebooks one after another into runs/<week>/; 0 if all are ok, else 1.

    `profile`, `model` and `tp` go into the notebooks' parameters where given; `notebook` narrows the run to
    names that begin so ("03"). A notebook that fails does not stop the others. UserError before anything
    starts for settings that the machine or a model cannot do.
    """
    chosen = select(week, notebook)
    parameters = _parameters(profile, model, tp)
    for stem in chosen:
        setup.configure(registry.find(stem), profile, model, {"tp": list(tp) if tp else None})
    run_notebook.clear_scratch()
    machine = hardware.detect().summary
    print(f"{week}: {len(chosen)} notebook{'s' if len(chosen) > 1 else ''} on {machine}", flush=True)
    results = [
        _run(stem, parameters, command(stem, profile, model, tp), wall_seconds, cell_seconds)
        for stem in chosen
    ]
    print(f"\n{summary(results)}")
    report = runs_dir() / week / "report.html"
    html.week_report(week, [_entry(result) for result in results], report)
    print(f"\nreport: {report}")
    return 0 if all(result.status == "ok" for result in results) else 1


def command(stem: str, profile: str, model: str | None, tp: Sequence[int] | None) -> str:
    """The command line that repeats this notebook's run."""
    week, _, name = stem.partition("/")
    words = ["python", "-m", "labs", "run", week, "--notebook", name.partition("_")[0], "--profile", profile]
    words += ["--model", model] if model else []
    words += ["--tp", *map(str, tp)] if tp else []
    return shlex.join(words)


def select(week: str, notebook: str | None = None) -> list[str]:
    """The stems to run, in order; UserError if there are none."""
    known = build.stems([week], paths.WEEKS.parent)
    if not known:
        raise UserError(f"{week} has no notebooks")
    chosen = [stem for stem in known if stem.partition("/")[2].startswith(notebook or "")]
    if not chosen:
        raise UserError(f"no notebook of {week} begins with {notebook!r}; there are {', '.join(known)}")
    for stem in chosen:
        if not _path(stem).exists():
            raise UserError(f"notebooks/{stem}.ipynb is not built; run `make notebooks`")
    return chosen


def summary(results: Sequence[Result]) -> str:
    """The table of all notebooks, then each Record's key results, and what failed."""
    table = [
        {
            "notebook": result.stem,
            "status": result.status,
            "seconds": round(result.seconds),
            "points": f"{result.points[0]:g}/{result.points[1]:g}",
            "gates passed": _gates(result),
        }
        for result in results
    ]
    blocks = [text_table(table)]
    for result in results:
        if result.record is not None:
            found = key_results(result)
            blocks.append(f"{result.stem}: {result.record.label()}\n{text_table(found)}")
    for result in results:
        if result.message:
            blocks.append(f"{result.stem} {result.status}: {result.message}{_see(result)}")
    return "\n\n".join(blocks)


def key_results(result: Result) -> list[dict[str, Any]]:
    """What the experiment's own summary says about this run's Record."""
    return registry.find(result.stem).summary(result.record) if result.record is not None else []


def _path(stem: str) -> Path:
    return paths.NOTEBOOKS / f"{stem}.ipynb"


def _parameters(profile: str, model: str | None, tp: Sequence[int] | None) -> dict[str, Any]:
    given = {"PROFILE": profile, "MODEL": model, "TP": list(tp) if tp else None}
    return {name: value for name, value in given.items() if value is not None}


def _run(
    stem: str, parameters: dict[str, Any], typed: str, wall_seconds: float, cell_seconds: float
) -> Result:
    from tqdm import tqdm

    try:
        cells = len(json.loads(_path(stem).read_text(encoding="utf-8"))["cells"])
    except (ValueError, KeyError, TypeError):
        message = f"notebooks/{stem}.ipynb is not a notebook; move it away and run `make notebooks`"
        return Result(stem, "failed", 0, None, None, message)
    form = "{desc} {percentage:3.0f}% |{bar:24}| {n_fmt}/{total_fmt} cells, {elapsed}"
    with tqdm(total=cells, desc=stem, bar_format=form, file=sys.stderr, dynamic_ncols=True) as bar:

        def on_cell(done: int, total: int) -> None:
            bar.total = total or cells
            bar.n = done
            bar.refresh()

        result = run_notebook.run(
            _path(stem),
            stem,
            parameters,
            wall_seconds=wall_seconds,
            cell_seconds=cell_seconds,
            on_cell=on_cell,
            command=typed,
        )
    print(f"{stem}: {result.status}, {result.seconds:.0f} s", flush=True)
    return result


def _gates(result: Result) -> str:
    gates = result.record.gates if result.record is not None else []
    return f"{sum(gate.passed for gate in gates)}/{len(gates)}"


def _see(result: Result) -> str:
    return f" (see {result.notebook})" if result.notebook else ""


def _figures(stem: str) -> list[figure.FigureSpec]:
    try:
        return list(figure.all_of(stem).values())
    except UserError:  # a notebook may have none
        return []


def _entry(result: Result) -> html.Entry:
    return html.Entry(
        stem=result.stem,
        title=build.title(result.stem, paths.WEEKS.parent),
        status=result.status,
        seconds=result.seconds,
        record=result.record,
        recorded=records.recorded(result.stem)[0],
        figures=_figures(result.stem),
        points=result.points,
        results=key_results(result),
        predictions=result.predictions,
        message="\n\n".join(part for part in (result.message, result.details) if part),
    )
