"""A figure of the workbook: a pure function of Records, with a sentence and a table beside it.

A complete one, as labs/report/week5/scaling_benchmark.py would hold it:

    import statistics

    import plotly.graph_objects as go

    from labs.report import figure, theme
    from labs.report.figure import Control, FigureSpec

    def _points(record):                        # derived from the raw samples, once, for all three functions
        rows = {tp: record.values("step", "tokens_per_s", tp=tp) for tp in (1, 2, 4)}
        return [(tp, statistics.median(values) if values else None) for tp, values in rows.items()]

    def draw(records, predictions, scale="linear"):
        if not any(record.rows("step") for record in records):
            return figure.empty_figure("No scaling run yet: lab.measure('scaling') makes one.")
        fig = go.Figure()
        for i, record in enumerate(records):    # [the learner's own, *recorded]; the own one may be absent
            points = _points(record)            # a value that was not measured is None: a gap, never 0
            fig.add_scatter(x=[tp for tp, _ in points], y=[value for _, value in points],
                            name=figure.source_label(record),
                            **theme.series_style(i, record.provenance.source))
        figure.prediction_marker(fig, 2, figure.predicted(predictions, "W5.N3.P1"))
        fig.update_xaxes(title=theme.axis_title("Tensor-parallel size", "ranks"), tickvals=[1, 2, 4])
        fig.update_yaxes(title=theme.axis_title("Output throughput", "tokens/s"), type=scale)
        return fig

    def sentence(records, predictions, scale="linear"):
        first, second = (value for _, value in _points(records[0])[:2])
        return f"TP=2 writes {figure.format_value(second)} tokens/s, TP=1 {figure.format_value(first)}."

    def table(records, predictions, scale="linear"):          # None is shown as "not measured"
        return [{"source": figure.source_label(record), "TP": tp, "throughput (tokens/s)": value}
                for record in records for tp, value in _points(record)]

    FIGURES = figure.registry(
        FigureSpec("throughput", "Throughput at each TP size", draw, sentence, table,
                   controls={"scale": Control("Vertical axis", ("linear", "log"))}),
    )

`draw` never styles the whole: `render` adds title, provenance, legend and height (`theme.finish`). It returns
`empty_figure(reason)` when rows are missing; `sentence` and `table` are then not called. Several recorded
Records may come from several machines; choose among them by `record.provenance`. In a module's tests, assert
`figure.problems(figure.render(spec, records).figure) == []`.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import plotly.graph_objects as go

from labs.core.errors import UserError
from labs.core.record import Record
from labs.report import theme
from labs.report.marks import NOT_MEASURED as NOT_MEASURED
from labs.report.marks import Predictions as Predictions
from labs.report.marks import empty_figure as empty_figure
from labs.report.marks import empty_reason as empty_reason
from labs.report.marks import format_value as format_value
from labs.report.marks import mark_missing as mark_missing
from labs.report.marks import predicted as predicted
from labs.report.marks import prediction_marker as prediction_marker
from labs.report.marks import source_label as source_label

Table = list[dict[str, Any]]


@dataclass(frozen=True)
class Control:
    """One thing a reader can turn. `options` are values, or a function of the records that returns them."""

    label: str  # "Tensor-parallel size"
    options: Sequence[Any] | Callable[[Sequence[Record]], Sequence[Any]]
    default: Any = None  # None: the first option
    unit: str = ""  # "ranks", shown behind each value
    kind: Literal["auto", "slider", "dropdown", "checkbox"] = (
        "auto"  # numbers slide, True/False tick, else a list
    )

    def choices(self, records: Sequence[Record]) -> list[Any]:
        """The options for these records, in order; empty when the records offer none."""
        return list(self.options(records) if callable(self.options) else self.options)

    def start(self, records: Sequence[Record]) -> Any:
        """The value before anybody turns it."""
        choices = self.choices(records)
        return self.default if self.default in choices else next(iter(choices), self.default)

    def text(self, value: Any) -> str:
        """An option as a reader sees it."""
        return f"{format_value(value)} {self.unit}".rstrip()


@dataclass(frozen=True)
class FigureSpec:
    """`draw`, `sentence` and `table` take (records, predictions, **controls) and have no side effects."""

    name: str
    title: str
    draw: Callable[..., go.Figure]
    sentence: Callable[..., str]
    table: Callable[..., Table]
    controls: Mapping[str, Control] = field(default_factory=dict)


@dataclass(frozen=True)
class Rendered:
    """What a reader gets: the finished figure, one sentence, the rows of a table, and the sources."""

    name: str
    title: str
    figure: go.Figure
    sentence: str
    table: Table
    labels: list[str]  # one line a Record: "measured on CPU, …, tiny model, 2026-01-31"

    @property
    def empty(self) -> bool:
        """True when the figure only says why there is nothing to draw."""
        return empty_reason(self.figure) is not None


def registry(*specs: FigureSpec) -> dict[str, FigureSpec]:
    """FIGURES of a module. ValueError for a name used twice."""
    found = {spec.name: spec for spec in specs}
    if len(found) < len(specs):
        raise ValueError(f"two figures share a name: {[spec.name for spec in specs]}")
    return found


def all_of(stem: str) -> dict[str, FigureSpec]:
    """The figures of notebook `week5/03_scaling_benchmark`; UserError if it has none."""
    week, _, name = stem.partition("/")
    module = f"labs.report.{week}.{name.partition('_')[2]}"
    try:
        return importlib.import_module(module).FIGURES
    except ModuleNotFoundError as error:
        if error.name and not f"{module}.".startswith(f"{error.name}."):
            raise  # a real fault inside the module
        raise UserError(f"there are no figures for notebook {stem!r}; check the name") from None


def find(stem: str, name: str) -> FigureSpec:
    """Figure `name` of notebook `stem`; UserError names those which it has."""
    figures = all_of(stem)
    if name not in figures:
        raise UserError(f"{stem} has no figure {name!r}; it has {', '.join(figures)}")
    return figures[name]


def render(
    spec: FigureSpec, records: Sequence[Record], predictions: Predictions | None = None, **controls: Any
) -> Rendered:
    """Draw `spec` over [the learner's own Record, *recorded ones]; controls not given take their defaults.

    Raises UserError for an unknown control or option, and ValueError when the drawing hides which of its
    numbers were measured and which recorded.
    """
    predictions = predictions or {}
    values = settings(spec, records, controls)
    if records:
        fig = spec.draw(records, predictions, **values)
    else:
        fig = empty_figure("No run yet: nothing has been measured, and no recorded run is kept.")
    reason = empty_reason(fig)
    if reason is None:
        _refuse_mixture(spec, fig, records)
    labels = list(dict.fromkeys(record.label() for record in records))
    theme.finish(fig, spec.title, labels if reason is None else ())
    return Rendered(
        name=spec.name,
        title=spec.title,
        figure=fig,
        sentence=reason or spec.sentence(records, predictions, **values),
        table=[] if reason else spec.table(records, predictions, **values),
        labels=labels,
    )


def settings(spec: FigureSpec, records: Sequence[Record], given: Mapping[str, Any]) -> dict[str, Any]:
    """Every control's value: those `given`, checked, and the defaults of the others."""
    for name, value in given.items():
        if name not in spec.controls:
            has = ", ".join(spec.controls) or "none"
            raise UserError(f"figure {spec.name!r} has no control {name!r}; its controls: {has}")
        choices = spec.controls[name].choices(records)
        if value not in choices:
            raise UserError(f"figure {spec.name!r}: {name}={value!r} is not one of {_listed(choices)}")
    return {name: given.get(name, control.start(records)) for name, control in spec.controls.items()}


def columns(table: Table) -> list[str]:
    """Column names in the order in which rows first mention them."""
    return list(dict.fromkeys(name for row in table for name in row))


def problems(fig: go.Figure) -> list[str]:
    """What keeps a finished figure from being read: for tests of figure modules. Empty if nothing does."""
    if empty_reason(fig) is not None:
        return []
    found = [f"trace {i} has no name" for i, trace in enumerate(fig.data) if not trace.name]
    found += [f"trace {t.name!r} bridges gaps of what was not measured" for t in fig.data if _bridges(t)]
    axes = [*fig.select_xaxes(), *fig.select_yaxes()]
    found += [f"{axis.plotly_name} has no title" for axis in axes if _untitled(axis)]
    return found if fig.data else [*found, "nothing is drawn: return empty_figure(reason) instead"]


def _bridges(trace: Any) -> bool:
    return "connectgaps" in trace and bool(trace.connectgaps)


def _untitled(axis: Any) -> bool:
    return axis.visible is not False and axis.showticklabels is not False and not axis.title.text


def _refuse_mixture(spec: FigureSpec, fig: go.Figure, records: Sequence[Record]) -> None:
    """Of own and recorded numbers in one figure, each trace says which it is, in its data and its name."""
    if len({record.provenance.source for record in records}) < 2:
        return
    for trace in fig.data:
        source = trace.meta.get("source") if isinstance(trace.meta, Mapping) else None
        said = source in ("prediction", "reference") or (source and source in (trace.name or ""))
        if not said:
            raise ValueError(
                f"figure {spec.name!r} mixes measured and recorded runs, and trace {trace.name!r} does not "
                "say which it shows: name it with source_label(record), style it with theme.series_style"
            )


def _listed(choices: Sequence[Any]) -> str:
    return ", ".join(repr(choice) for choice in choices) or "nothing (the run has no such rows)"
