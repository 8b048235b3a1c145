"""Figures of the scaling benchmark: the serial fraction of Karp and Flatt, and what a token costs."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from labs.analysis.week5 import scaling_benchmark as numbers
from labs.core.record import Record
from labs.report import figure, theme
from labs.report.figure import Control, FigureSpec, Predictions, Table
from labs.report.week5 import scaling_parts as parts

Records = Sequence[Record]


def draw_serial(records: Records, predictions: Predictions, zoom: bool = False) -> go.Figure:
    """A panel a load: Karp-Flatt's serial fraction over the TP size; `zoom` cuts the axis at 1."""
    if not any(row["serial_fraction"] is not None for one in records for row in parts.beyond_one(one)):
        return figure.empty_figure("No run here holds TP=1 and a larger size: there is no serial fraction.")
    sizes = [tp for tp in parts.sizes(records) if tp > 1]
    fig = parts.panels(list(parts.LOADS.values()), shared=True)
    for col, load in enumerate(numbers.LOADS, 1):
        for i, record in enumerate(records):
            rows = parts.beyond_one(record, load)
            fig.add_scatter(
                x=[row["tp"] for row in rows],
                y=[row["serial_fraction"] for row in rows],
                error_y=parts.spread(rows, "serial_fraction", "serial_fraction_low", "serial_fraction_high"),
                name=figure.source_label(record),
                legendgroup=str(i),
                showlegend=col == 1,
                **theme.series_style(i, record.provenance.source),
                row=1,
                col=col,
            )
        parts.add_claim(fig, "serial_fraction", 1, col)
    fig.update_xaxes(
        title=theme.axis_title("TP size", "ranks"), tickvals=sizes, range=parts.x_range([1, *sizes])
    )
    fig.update_yaxes(title="Serial fraction e (no unit)", row=1, col=1)
    if zoom:
        fig.update_yaxes(range=[0, 1])
    return fig


def serial_sentence(records: Records, predictions: Predictions, zoom: bool = False) -> str:
    """e of the saturated load at each size of the first run that has one."""
    record = parts.first(records, lambda one: any(row["serial_fraction"] for row in parts.beyond_one(one)))
    if record is None:
        return "The saturated load has no serial fraction in these runs."
    rows = [row for row in parts.beyond_one(record) if row["serial_fraction"] is not None]
    said = ", ".join(f"{row['serial_fraction']:.3g} at TP={row['tp']}" for row in rows)
    added = " Above 1, work was added: no division of the old work explains it."
    above = added if any(row["serial_fraction"] > 1 for row in rows) else ""
    return f"{parts.who(record)}, saturated load: e is {said}.{above}"


def serial_table(records: Records, predictions: Predictions, zoom: bool = False) -> Table:
    """e with its range for every run, load and size beyond 1; the claim below them."""
    table: Table = [
        {
            "source": figure.source_label(record),
            "load": parts.LOADS[load],
            "TP": row["tp"],
            "serial fraction": row["serial_fraction"],
            "range": parts.span(row["serial_fraction_low"], row["serial_fraction_high"]),
        }
        for record in records
        for load in numbers.LOADS
        for row in parts.beyond_one(record, load)
    ]
    return table + [
        {"source": "claim", "load": "not stated", "TP": row["tp"], "serial fraction": row["serial_fraction"]}
        for row in numbers.claim()
        if row["tp"] > 1
    ]


def draw_cost(records: Records, predictions: Predictions, tp: int | None, load: str) -> go.Figure:
    """A bar a run: the price of an output token at `tp` relative to TP=1. The price of an hour cancels."""
    rows = _costs(records, tp, load)
    if not any(row["cost"] for row in rows):
        return figure.empty_figure("No run here holds TP=1 and a larger size: there is no ratio of costs.")
    fig = go.Figure()
    for row in rows:
        label = theme.wrap(row["name"], 34)
        known = row["cost"] is not None
        ranged = parts.spread([row], "cost", "cost_low", "cost_high") if row["cost_low"] else {}
        fig.add_bar(
            y=[label],
            x=[row["cost"]],
            orientation="h",
            error_x={**ranged, "color": theme.INK},
            name=row["name"],
            showlegend=False,
            width=0.55,
            **theme.bar_style(row["index"], row["kind"]),
        )
        text = f"{row['cost']:.2f}×" if known else figure.NOT_MEASURED
        end = row["cost_high"] or row["cost"] or 0
        fig.add_annotation(x=end, y=label, text=text, xanchor="left", xshift=8, showarrow=False)
    most = max(row["cost_high"] or row["cost"] or 0 for row in rows)
    line = {"color": theme.INK, "width": 1.5, "dash": "dot"}
    name = "TP=1, and N independent replicas of it"
    fig.add_vline(x=1, line=line, name=name, showlegend=True)
    fig.update_xaxes(title="Cost of an output token, TP=1 is 1 (×)", range=[0, max(1.0, most) * 1.2])
    fig.update_yaxes(autorange="reversed", title="Run")
    fig.update_layout(height=120 + 62 * len(rows))
    return fig


def cost_sentence(records: Records, predictions: Predictions, tp: int | None, load: str) -> str:
    """The ratio of the first run that has one."""
    row = next(row for row in _costs(records, tp, load) if row["cost"] is not None)
    run = parts.who(row["record"]) if row["record"] else "The claim of the source document"
    return (
        f"{run}, {parts.LOADS[load]}: TP={tp} makes {row['speedup']:.3g} times the tokens with {tp} "
        f"times the devices, so a token costs {row['cost']:.3g} times as much as at TP=1."
    )


def cost_table(records: Records, predictions: Predictions, tp: int | None, load: str) -> Table:
    """Speed-up and ratio of costs of each run at the size and load chosen."""
    return [
        {
            "source": row["name"],
            "load": parts.LOADS[load] if row["record"] else "not stated",
            "TP": tp,
            "speed-up": row["speedup"],
            "cost of a token, TP=1 is 1": row["cost"],
            "range": parts.span(row["cost_low"], row["cost_high"]) if row["record"] else "",
        }
        for row in _costs(records, tp, load)
    ]


def _costs(records: Records, tp: int | None, load: str) -> list[dict[str, Any]]:
    """One row a run, and the claim: name, kind of source, colour index, speed-up, cost and its range."""
    blank = {"speedup": None, "cost": None, "cost_low": None, "cost_high": None}
    rows = []
    for index, record in enumerate(records):
        found = numbers.at(record, load, tp) if tp else None
        said = {"name": figure.source_label(record), "kind": record.provenance.source, "record": record}
        rows.append({**blank, **(found or {}), **said, "index": index})
    for row in numbers.claim():
        if row["tp"] == tp:
            rows.append(
                {**blank, **row, "name": parts.CLAIM, "kind": "reference", "record": None, "index": 0}
            )
    return rows


def _sizes_beyond_one(records: Records) -> list[int]:
    return [tp for tp in parts.sizes(records) if tp > 1]


SERIAL = FigureSpec(
    "serial",
    "The serial fraction by Karp and Flatt",
    draw_serial,
    serial_sentence,
    serial_table,
    controls={"zoom": Control("Cut the axis at 0 and 1", (False, True))},
)
COST = FigureSpec(
    "cost",
    "What a token costs, relative to one device",
    draw_cost,
    cost_sentence,
    cost_table,
    controls={
        "tp": Control("Tensor-parallel size", _sizes_beyond_one),
        "load": Control("Load", numbers.LOADS, kind="dropdown"),
    },
)
