"""Figure of the setup notebook: how far log-probabilities differ, token by token, against the tolerance."""

import statistics
from collections.abc import Sequence

import plotly.graph_objects as go

from labs.analysis.week5 import tensor_parallel_setup as numbers
from labs.core.record import Record
from labs.report import figure, theme
from labs.report.figure import FigureSpec, Predictions, Table
from labs.report.week5 import setup_parts as parts

Records = parts.Records
ZERO = 1e-8  # nats: where "no difference" is drawn, below the spacing of float32 numbers near 1
GOLDEN = 0.618033988749895  # an even scatter without chance: https://en.wikipedia.org/wiki/Low-discrepancy_sequence


def draw_differences(records: Records, predictions: Predictions) -> go.Figure:
    """A row a comparison, a point a token, the mean as a bar; zero stands at the left edge of the axis."""
    shown = [record for record in records if numbers.comparisons(record)]
    if not shown:
        return figure.empty_figure("No agreement measured yet: lab.measure('agreement') does it.")
    rows = _rows(shown)
    fig = go.Figure()
    for i, record in enumerate(shown):
        _draw_run(fig, record, rows, i, len(shown))
    _draw_tolerance(fig, shown, rows)
    mine = parts.own(shown)
    largest = parts.largest_below(numbers.scored(mine)) if mine else None
    said = parts.number(predictions, "W5.N1.P5")
    if largest and said is not None and said >= 0:
        at = rows.index(_label(f"vLLM TP={largest}", "vLLM TP=1"))
        text = f"largest, {said:.3g} nats"
        figure.prediction_marker(fig, max(said, ZERO), at, text=text)
    exponents = range(-7, 2)
    fig.update_xaxes(
        title=theme.axis_title("|difference of log-probabilities| of a token", "nats"),
        type="log",
        range=[-8.3, 1.2],
        tickvals=[ZERO, *(10.0**e for e in exponents)],
        ticktext=["0", *(f"10<sup>{e}</sup>" for e in exponents)],
    )
    fig.update_yaxes(
        title="Compared",
        tickvals=list(range(len(rows))),
        ticktext=rows,
        range=[len(rows) - 0.5, -0.5],
        showgrid=False,
    )
    return fig.update_layout(height=max(theme.PLOT_HEIGHT, 90 + 62 * len(rows)))


def differences_sentence(records: Records, predictions: Predictions) -> str:
    """Mean differences of the largest size against the tolerance, and between the sizes."""
    record = parts.first(records, numbers.comparisons)
    assert record is not None  # draw_differences drew one
    largest = max(numbers.scored(record), default=None)
    if largest is None:
        return f"{parts.who(record)} asked no vLLM engine, so only the noise of bfloat16 is known."
    found = numbers.difference(record.samples, f"vLLM TP={largest}")
    allowed = numbers.run_tolerance(record)
    verdict = "within" if found["mean"] <= allowed else "beyond"
    between = numbers.between_sizes(record)
    more = f" From TP=1 no token differs by more than {between:.2g} nats." if between is not None else ""
    return (
        f"{parts.who(record)}: vLLM at TP={largest} differs from transformers by {found['mean']:.2g} nats on "
        f"average, {verdict} the tolerance of {allowed:.2g}.{more}"
    )


def differences_table(records: Records, predictions: Predictions) -> Table:
    """Every run and comparison: mean, largest, tokens, exact zeros, and what the gate allowed."""
    table: Table = []
    for record in records:
        for name, against in numbers.comparisons(record):
            found = numbers.gaps(record.samples, name, against)
            gated = name != numbers.NOISE and against == numbers.REFERENCE
            table.append(
                {
                    "source": _run(record),
                    "compared": _label(name, against),
                    "tokens": len(found),
                    "mean nats": statistics.fmean(found),
                    "largest nats": max(found),
                    "exactly equal": sum(gap == 0 for gap in found),
                    "mean may be": numbers.run_tolerance(record) if gated else "no gate",
                }
            )
    return table


def _rows(shown: Records) -> list[str]:
    """Labels of all comparisons: the noise, vLLM against transformers by size, then sizes against TP=1."""
    pairs = {pair for record in shown for pair in numbers.comparisons(record)}
    order = {numbers.NOISE: 0}
    ordered = sorted(pairs, key=lambda p: (p[1] != numbers.REFERENCE, order.get(p[0], 1), p[0]))
    return [_label(*pair) for pair in ordered]


def _label(name: str, against: str) -> str:
    if name == numbers.NOISE:
        return "noise of bfloat16"
    return f"{name.removeprefix('vLLM ')} − {against.removeprefix('vLLM ').split(' ')[0]}"


def _run(record: Record) -> str:
    """`recorded: 4x NVIDIA H200, tiny model`: dummy weights are no model that two sizes could agree on."""
    origin = record.provenance
    model = "tiny" if origin.weights == "dummy" else origin.model
    return f"{origin.source}: {origin.hardware.get('summary', 'unknown hardware')}, {model} model"


def _draw_run(fig: go.Figure, record: Record, rows: Sequence[str], index: int, runs: int) -> None:
    """Points and means of one run, in its own band of each row."""
    xs: list[float] = []
    ys: list[float] = []
    means: list[float] = []
    heights: list[float] = []
    height = 0.8 / runs
    for name, against in numbers.comparisons(record):
        found = numbers.gaps(record.samples, name, against)
        top = rows.index(_label(name, against)) - 0.4 + index * height
        xs += [float(f"{max(gap, ZERO):.3g}") for gap in found]
        ys += [round(top + height * (0.08 + 0.84 * (i * GOLDEN % 1)), 3) for i in range(len(found))]
        means.append(max(statistics.fmean(found), ZERO))
        heights.append(top + height / 2)
    source, label = record.provenance.source, _run(record)
    style = theme.series_style(index, source, "markers")
    style["marker"] = {**style["marker"], "size": 5 if source == "measured" else 4, "line": {"width": 1}}
    fig.add_scatter(x=xs, y=ys, name=f"a token, {label}", hovertemplate="%{x} nats<extra></extra>", **style)
    bar = {"symbol": "line-ns-open", "size": 150 * height / 2.4, "line": {"width": 4}, "color": theme.INK}
    fig.add_scatter(
        x=means,
        y=heights,
        name=f"mean, {label}",
        mode="markers",
        marker=bar,
        showlegend=index == 0,
        meta={"source": source},
        hovertemplate="mean %{x:.3g} nats<extra></extra>",
    )


def _draw_tolerance(fig: go.Figure, shown: Records, rows: Sequence[str]) -> None:
    """A line beside each gated row of each run: what its mean may be."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    height = 0.8 / len(shown)
    for index, record in enumerate(shown):
        for name, against in numbers.comparisons(record):
            if name != numbers.NOISE and against == numbers.REFERENCE:
                top = rows.index(_label(name, against)) - 0.4 + index * height
                xs += [numbers.run_tolerance(record)] * 2 + [None]
                ys += [top, top + height, None]
    if xs:
        fig.add_scatter(
            x=xs,
            y=ys,
            name="tolerance of the mean",
            mode="lines",
            line={"color": theme.COLORS[2], "width": 4},
            meta={"source": "reference"},
        )


DIFFERENCES = FigureSpec(
    "differences",
    "How far apart the log-probabilities are",
    draw_differences,
    differences_sentence,
    differences_table,
)
