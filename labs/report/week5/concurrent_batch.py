"""Figure of the concurrency notebook: one batch through the engine offline and through the server."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from labs.analysis.week5 import concurrent_requests as numbers
from labs.core.record import Record
from labs.core.stats import Summary
from labs.report import figure, theme
from labs.report.figure import Control, FigureSpec, Predictions, Table
from labs.report.week5 import concurrent_parts as parts

Records = Sequence[Record]
UNITS = {  # control value -> axis title
    "offline is 1": "Output rate, offline is 1 (×)",
    "tokens/s": theme.axis_title("Output rate", "tokens/s"),
}
CLAIM = "claim of the source document: both alike"


def draw_batch(records: Records, predictions: Predictions, unit: str = "offline is 1") -> go.Figure:
    """A bar a way and run, with the range of the repeats."""
    if not any(_values(record, unit) for record in records):
        return figure.empty_figure("No batch yet: lab.measure('server') and lab.measure('offline') make it.")
    fig = go.Figure(layout={"barmode": "group"})
    for i, record in enumerate(records):
        rows = _values(record, unit)
        fig.add_bar(
            x=list(rows),
            y=[row["middle"] for row in rows.values()],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [row["high"] - row["middle"] for row in rows.values()],
                "arrayminus": [row["middle"] - row["low"] for row in rows.values()],
                "color": theme.INK,
                "thickness": 1.5,
            },
            name=figure.source_label(record),
            offsetgroup=str(i),
            **theme.bar_style(i, record.provenance.source),
        )
        missing = [way for way in numbers.batch_rates(record) if way not in rows]
        shift = 60 * (i - (len(records) - 1) / 2)
        figure.mark_missing(fig, missing, xshift=shift)
    if unit == "offline is 1":
        style = theme.series_style(0, "reference", "lines")
        ways = list(dict.fromkeys(way for record in records for way in numbers.batch_rates(record)))
        fig.add_scatter(x=ways, y=[1] * len(ways), name=CLAIM, **style)
    own, said = parts.own(records), parts.number(predictions, "W5.N2.P5")
    base = numbers.batch_rates(own)["offline"].median if own else None
    if said is not None and base:
        y = said if unit == "offline is 1" else said * base
        figure.prediction_marker(fig, "server, at once", y, text=f"{said:.3g}× offline")
    fig.update_xaxes(title="How requests of one size are sent", type="category", categoryorder="array")
    fig.update_xaxes(categoryarray=["offline", "server, at once", "server, closed loop"])
    fig.update_yaxes(title=UNITS[unit])
    if unit == "tokens/s":
        fig.update_yaxes(type="log", dtick=1, tickformat=",", rangemode="normal")
    return fig


def batch_sentence(records: Records, predictions: Predictions, unit: str = "offline is 1") -> str:
    """The server's rate over the offline rate, with the range of both."""
    record = parts.first(records, lambda one: all(s.n for s in _both(one)))
    if record is None:
        return "The server and the offline engine were not both measured, so there is nothing to compare."
    server, offline = _both(record)
    (load,) = record.rows("load", mode="batch")[:1]
    times = numbers.ratio(server.median, offline.median)
    overlap = server.min <= offline.max and offline.min <= server.max  # type: ignore[operator]
    doubt = " The ranges overlap, so this run shows no difference." if overlap else ""
    return (
        f"{parts.who(record)}: at once through the server {server.text('tokens/s', 4)}, offline "
        f"{offline.text('tokens/s', 4)}: {times:.3g} times as fast.{doubt} "
        f"{parts.late(numbers.point(record, load))}"
    )


def batch_table(records: Records, predictions: Predictions, unit: str = "offline is 1") -> Table:
    """Every way of every run, not measured ones too."""
    table: Table = []
    for record in records:
        rates = numbers.batch_rates(record)
        for way, found in rates.items():
            table.append(
                {
                    "source": figure.source_label(record),
                    "TP": numbers.tp(record),
                    "way": way,
                    "output tok/s": found.median,
                    "range": parts.span(found.min, found.max, 4),
                    "repeats": found.n,
                    "over offline": numbers.ratio(found.median, rates["offline"].median),
                }
            )
    return table


def _both(record: Record) -> tuple[Summary, Summary]:
    rates = numbers.batch_rates(record)
    return rates["server, at once"], rates["offline"]


def _values(record: Record, unit: str) -> dict[str, dict[str, Any]]:
    """Median and range of each way that was measured, in the unit."""
    rates = numbers.batch_rates(record)
    base = rates["offline"].median if unit == "offline is 1" else 1.0
    return {
        way: {"middle": found.median / base, "low": found.min / base, "high": found.max / base}
        for way, found in rates.items()
        if base and found.median is not None and found.min is not None and found.max is not None
    }


BATCH = FigureSpec(
    "batch",
    "One batch, through the server and without it",
    draw_batch,
    batch_sentence,
    batch_table,
    controls={"unit": Control("Show", tuple(UNITS), kind="dropdown")},
)
