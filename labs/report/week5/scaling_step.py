"""Figures of the scaling benchmark: where a decode step goes, and how far it stands above the memory's floor.

Both draw one panel a run, the learner's own and one recorded, with bars of milliseconds by TP size.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import plotly.graph_objects as go

from labs.analysis.week5 import scaling_benchmark as numbers
from labs.analysis.week5 import scaling_step as step
from labs.core.record import Record
from labs.report import figure, theme
from labs.report.figure import Control, FigureSpec, Predictions, Table
from labs.report.week5 import scaling_parts as parts

Records = Sequence[Record]
BESIDE = Control("Recorded run beside", parts.recorded_names, kind="dropdown")
PERFECT = "perfect step: that of TP=1 divided by TP"


def draw_step(records: Records, predictions: Predictions, beside: str | None) -> go.Figure:
    """Stacked bars: all-reduces (count × time) on the rest of the step, and the mark of a perfect one."""
    shown = [record for record in parts.pair(records, beside) if _has_step(record)]
    if not shown:
        return figure.empty_figure(parts.NO_RUN)
    fig = _run_panels(shown, "all-reduces' share of the step")
    for col, record in enumerate(shown, 1):
        source = record.provenance.source
        rows = {_tick(tp): step.step_time(record, tp) for tp in numbers.tp_sizes(record)}
        known = {tick: row for tick, row in rows.items() if row["share"] is not None}
        unknown = {tick: row for tick, row in rows.items() if row["share"] is None}
        _bars(fig, col, known, "rest_ms", f"{source}: the rest of the step", 0, record)
        _bars(fig, col, known, "communication_ms", f"{source}: all-reduces, count × time", 1, record)
        _bars(fig, col, unknown, "step_ms", f"{source}: step, all-reduce not measured", 3, record)
        _ticks(fig, col, {tick: f"{row['share']:.1%}" for tick, row in known.items()}, rows)
        fig.add_scatter(
            x=list(rows),
            y=[row["perfect_ms"] for row in rows.values()],
            name=PERFECT,
            legendgroup="perfect",
            showlegend=col == 1,
            row=1,
            col=col,
            mode="markers",
            marker={"symbol": "line-ew-open", "size": 46, "color": theme.INK, "line": {"width": 2.5}},
            meta={"source": "reference"},
        )
    _mark(fig, shown, parts.number(predictions, "W5.N3.P3"), 2, "step_ms", step.step_time, 0.01, "{:.3g} %")
    return fig


def step_sentence(records: Records, predictions: Predictions, beside: str | None) -> str:
    """Share of the step and of the loss at the largest size whose all-reduce was timed."""
    record = parts.first(parts.pair(records, beside), lambda one: _largest(one) is not None)
    if record is None:
        return "No all-reduce was timed in these runs: TP=1 sends no message."
    tp = _largest(record)
    assert tp is not None
    row = step.step_time(record, tp)
    count = step.collective_count(record, tp)
    each = step.all_reduce_us(record, tp, 1).median
    explained = (
        f"; of the {figure.format_value(row['missing_ms'], 3)} ms beyond a perfect step they explain "
        f"{row['explained']:.1%}"
        if row["explained"] is not None
        else ""
    )
    return (
        f"{parts.who(record)}, TP={tp}: {count} all-reduces of {figure.format_value(each, 3)} µs make "
        f"{row['share']:.1%} of a step of {figure.format_value(row['step_ms'], 3)} ms{explained}."
    )


def step_table(records: Records, predictions: Predictions, beside: str | None) -> Table:
    """Every run and size in ms a token of the single stream."""
    return [
        {
            "source": figure.source_label(record),
            "TP": tp,
            "ms/token": row["step_ms"],
            "range": _range(record, tp),
            "all-reduces": 0 if tp == 1 else step.collective_count(record, tp),
            "µs each": step.all_reduce_us(record, tp, 1).median if tp > 1 else "none",
            "all-reduce ms": row["communication_ms"],
            "share %": parts.scaled(row["share"], 100),
            "perfect ms": row["perfect_ms"],
        }
        for record in records
        for tp in numbers.tp_sizes(record)
        for row in [step.step_time(record, tp)]
    ]


def draw_floor(records: Records, predictions: Predictions, beside: str | None) -> go.Figure:
    """Stacked bars: the floor, and what the step takes above it."""
    shown = [record for record in parts.pair(records, beside) if _has_step(record)]
    if not shown:
        return figure.empty_figure(parts.NO_RUN)
    fig = _run_panels(shown, "step / floor")
    for col, record in enumerate(shown, 1):
        source = record.provenance.source
        rows = {_tick(tp): step.floor(record, tp) for tp in numbers.tp_sizes(record)}
        known = {tick: row for tick, row in rows.items() if row["ratio"] is not None}
        unknown = {tick: row for tick, row in rows.items() if row["ratio"] is None}
        _bars(fig, col, known, "floor_ms", f"{source}: floor, weights / bandwidth", 2, record)
        _bars(fig, col, known, "above_ms", f"{source}: above the floor", 5, record)
        _bars(fig, col, unknown, "step_ms", f"{source}: step, floor not measured", 3, record)
        _ticks(fig, col, {tick: f"{row['ratio']:.3g}×" for tick, row in known.items()}, rows)
    _mark(
        fig, shown, parts.number(predictions, "W5.N3.P4"), 1, "floor_ms", step.floor, 1, "{:.3g}× the floor"
    )
    return fig


def floor_sentence(records: Records, predictions: Predictions, beside: str | None) -> str:
    """Step over floor at the smallest size, and the remainder at every size."""
    record = parts.first(parts.pair(records, beside), lambda one: _floors(one))
    if record is None:
        return (
            "No run here measured bandwidth and a decode step together, so there is no floor to compare with."
        )
    rows = _floors(record)
    tp, row = next(iter(rows.items()))
    rest = ", ".join(f"{figure.format_value(r['above_ms'], 3)} ms at TP={n}" for n, r in rows.items())
    return (
        f"{parts.who(record)}, TP={tp}: a step takes {figure.format_value(row['ratio'], 3)} times the floor "
        f"of {figure.format_value(row['floor_ms'], 3)} ms. Above the floor stand {rest}."
    )


def floor_table(records: Records, predictions: Predictions, beside: str | None) -> Table:
    """Weights, bandwidth, floor and remainder of every run and size."""
    return [
        {
            "source": figure.source_label(record),
            "TP": tp,
            "weights read MB/rank": parts.scaled(row["bytes"], 1e-6),
            "bandwidth GB/s": parts.scaled(row["bytes_per_s"], 1e-9),
            "floor ms": row["floor_ms"],
            "ms/token": row["step_ms"],
            "range": _range(record, tp),
            "above the floor ms": row["above_ms"],
            "step/floor": row["ratio"],
        }
        for record in records
        for tp in numbers.tp_sizes(record)
        for row in [step.floor(record, tp)]
    ]


def _tick(tp: int) -> str:
    return f"TP={tp}"


def _has_step(record: Record) -> bool:
    return any(step.ms_per_token(record, tp).n for tp in numbers.tp_sizes(record))


def _largest(record: Record) -> int | None:
    """The largest size whose share of communication is known."""
    return max((tp for tp in numbers.tp_sizes(record) if step.step_time(record, tp)["share"]), default=None)


def _floors(record: Record) -> dict[int, dict[str, float | None]]:
    rows = {tp: step.floor(record, tp) for tp in numbers.tp_sizes(record)}
    return {tp: row for tp, row in rows.items() if row["ratio"] is not None}


def _range(record: Record, tp: int) -> str:
    found = step.ms_per_token(record, tp)
    return parts.span(found.min, found.max)


def _run_panels(shown: Records, said: str) -> go.Figure:
    fig = parts.panels([figure.source_label(record) for record in shown], shared=False)
    fig.update_layout(barmode="stack")
    fig.update_xaxes(title=f"TP size, and {said}", type="category")
    fig.update_yaxes(title=theme.axis_title("Decode step, one sequence", "ms"))
    return fig


def _bars(
    fig: go.Figure, col: int, rows: dict[str, dict], column: str, name: str, index: int, record: Record
) -> None:
    heights = [row[column] if row[column] and row[column] > 0 else None for row in rows.values()]
    if not any(heights):
        return
    fig.add_bar(
        x=list(rows),
        y=heights,
        name=name,
        width=0.5,
        row=1,
        col=col,
        **theme.bar_style(index, record.provenance.source),
    )


def _ticks(fig: go.Figure, col: int, said: Mapping[str, str], ticks: Iterable[str]) -> None:
    """A number under each tick, where no bar and no star can hide it."""
    names = list(ticks)
    texts = [f"{tick}<br>{said.get(tick, figure.NOT_MEASURED)}" for tick in names]
    fig.update_xaxes(tickvals=names, ticktext=texts, row=1, col=col)


def _mark(
    fig: go.Figure,
    shown: Records,
    said: float | None,
    tp: int,
    column: str,
    of: Callable[[Record, int], dict[str, float | None]],
    scale: float,
    text: str,
) -> None:
    """The prediction `said` (a multiple of `column` at `tp`) as a star in the learner's own panel."""
    record = parts.own(shown)
    base = of(record, tp)[column] if record and tp in numbers.tp_sizes(record) else None
    if record and said is not None and base is not None:
        col = 1 + list(shown).index(record)
        text = text.format(said)
        figure.prediction_marker(fig, _tick(tp), said * scale * base, text=text, row=1, col=col)


STEP = FigureSpec(
    "step", "Where a decode step goes", draw_step, step_sentence, step_table, controls={"beside": BESIDE}
)
FLOOR = FigureSpec(
    "floor",
    "A decode step above its floor",
    draw_floor,
    floor_sentence,
    floor_table,
    controls={"beside": BESIDE},
)
