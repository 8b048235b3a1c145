"""Figure of the scaling benchmark: the time of an all-reduce by message size, and a line to lay through it.

The reader sets alpha (seconds a ring step) and bandwidth until the model meets the medians.
"""

from collections.abc import Sequence

import plotly.graph_objects as go

from labs.analysis.week5 import scaling_step as step
from labs.core.record import Record
from labs.report import figure, theme
from labs.report.figure import Control, FigureSpec, Predictions, Table
from labs.report.week5 import scaling_parts as parts

Records = Sequence[Record]
ALPHAS_US = (0.2, 0.5, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 1000)
BANDWIDTHS_GB = (
    0.1,
    0.2,
    0.5,
    1,
    2,
    3,
    5,
    7,
    10,
    15,
    20,
    30,
    50,
    70,
    100,
    150,
    200,
    300,
    400,
    500,
    700,
    1000,
)


def draw_messages(
    records: Records, predictions: Predictions, tp: int | None, alpha_us: float, gb_per_s: float
) -> go.Figure:
    """Medians with their range over the message size, both axes logarithmic, and the alpha-beta line."""
    found = [(i, record, step.messages(record, tp) if tp else []) for i, record in enumerate(records)]
    sizes = sorted({row["bytes"] for _, _, rows in found for row in rows})
    if not sizes:
        return figure.empty_figure(
            "No all-reduce was timed: TP=1 sends no message, and no other run is kept."
        )
    fig = go.Figure()
    for i, record, rows in found:
        ends = [{"at": r["summary"].median, "low": r["summary"].min, "high": r["summary"].max} for r in rows]
        if rows:
            fig.add_scatter(
                x=[row["bytes"] for row in rows],
                y=[row["summary"].median for row in rows],
                error_y=parts.spread(ends, "at", "low", "high"),
                name=figure.source_label(record),
                **theme.series_style(i, record.provenance.source),
            )
    xs = [sizes[0] * (sizes[-1] / sizes[0]) ** (i / 60) for i in range(61)]
    fig.add_scatter(
        x=xs,
        y=[_line_us(x, tp, alpha_us, gb_per_s) for x in xs],
        name=f"model: alpha {alpha_us:g} µs a ring step, {gb_per_s:g} GB/s",
        **theme.series_style(0, "reference"),
    )
    fig.data[-1].line.update(color=theme.INK, width=2.5)
    ticks = [2**k for k in range(8, 34, 2) if sizes[0] / 2 <= 2**k <= sizes[-1] * 2]
    fig.update_xaxes(
        title=theme.axis_title("Message", "bytes"),
        type="log",
        tickvals=ticks,
        ticktext=[parts.nbytes(tick) for tick in ticks],
    )
    fig.update_yaxes(title=theme.axis_title("One all-reduce", "µs"), type="log", dtick=1, tickformat=",")
    return fig


def messages_sentence(
    records: Records, predictions: Predictions, tp: int | None, alpha_us: float, gb_per_s: float
) -> str:
    """How far the line misses the first run that has messages of this size."""
    assert tp is not None
    record = parts.first(records, lambda one: step.messages(one, tp))
    assert record is not None  # draw has found messages
    factor, row = step.misfit(record, tp, alpha_us * 1e-6, gb_per_s * 1e9)
    if factor is None or row is None:
        return "The messages of this run have no times."
    return (
        f"{parts.who(record)}, TP={tp}: with alpha = {alpha_us:g} µs and {gb_per_s:g} GB/s the line misses "
        f"the medians by at most a factor of {factor:.3g}, at {parts.nbytes(row['bytes'])}."
    )


def messages_table(
    records: Records, predictions: Predictions, tp: int | None, alpha_us: float, gb_per_s: float
) -> Table:
    """Every run and message: what was measured, and what the line says."""
    return [
        {
            "source": figure.source_label(record),
            "TP": tp,
            "tokens": row["tokens"],
            "message": parts.nbytes(row["bytes"]),
            "median µs": row["summary"].median,
            "range": parts.span(row["summary"].min, row["summary"].max),
            "model µs": _line_us(row["bytes"], tp, alpha_us, gb_per_s),
            "carried by": row["carrier"],
            "in a CUDA graph": row["captured"],
        }
        for record in records
        for row in (step.messages(record, tp) if tp else [])
    ]


def _line_us(size: float, tp: int | None, alpha_us: float, gb_per_s: float) -> float:
    return step.all_reduce_s(size, tp or 1, alpha_us * 1e-6, gb_per_s * 1e9) * 1e6


def _sizes(records: Records) -> list[int]:
    return sorted({tp for record in records for tp in step.message_sizes(record)})


MESSAGES = FigureSpec(
    "messages",
    "All-reduce by message size, and your line",
    draw_messages,
    messages_sentence,
    messages_table,
    controls={
        "tp": Control("Tensor-parallel size", _sizes),
        "alpha_us": Control("alpha, a ring step", ALPHAS_US, default=10, unit="µs"),
        "gb_per_s": Control("bandwidth = 1/beta", BANDWIDTHS_GB, default=10, unit="GB/s"),
    },
)
