"""Figures of notebook week5/03_scaling_benchmark; this module draws the speed-up of each load.

scaling_step.py draws a decode step and its floor, scaling_messages.py the all-reduce by message size,
scaling_cost.py serial fraction and cost, scaling_parts.py what they share.
"""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from labs.analysis.week5 import scaling_benchmark as numbers
from labs.core.record import Record
from labs.report import figure, theme
from labs.report.figure import Control, FigureSpec, Predictions, Table
from labs.report.week5 import scaling_cost, scaling_messages, scaling_step
from labs.report.week5 import scaling_parts as parts

Records = Sequence[Record]
QUANTITIES = {  # control value -> (column of numbers.scaling, scale, axis title)
    "speed-up": ("speedup", 1, theme.axis_title("Speed-up over TP=1", "×")),
    "throughput": ("tokens_per_s", 1, theme.axis_title("Output rate", "tokens/s")),
    "efficiency": ("efficiency", 100, theme.axis_title("Efficiency", "%")),
}


def draw_scaling(records: Records, predictions: Predictions, quantity: str = "speed-up") -> go.Figure:
    """A panel a load: runs with the range of their repeats, the ideal, and the source document's claim."""
    sizes = parts.sizes(records)
    if not sizes:
        return figure.empty_figure(parts.NO_RUN)
    choice = figure.predicted(predictions, "W5.N3.P2")
    fig = parts.panels([_panel_title(load, choice) for load in numbers.LOADS], shared=True)
    column, scale, title = QUANTITIES[quantity]
    for col, load in enumerate(numbers.LOADS, 1):
        where = {"row": 1, "col": col}
        for i, record in enumerate(records):
            rows = numbers.scaling(record, load)
            fig.add_scatter(
                x=[row["tp"] for row in rows],
                y=[parts.scaled(row[column], scale) for row in rows],
                error_y=_error(rows, quantity),
                name=figure.source_label(record),
                legendgroup=str(i),
                showlegend=col == 1,
                **theme.series_style(i, record.provenance.source),
                **where,
            )
        parts.add_claim(fig, column, scale, col)
        _add_ideal(fig, records, quantity, load, sizes, col)
    _mark_prediction(fig, records, predictions, quantity)
    fig.update_xaxes(title=theme.axis_title("TP size", "ranks"), tickvals=sizes, range=parts.x_range(sizes))
    fig.update_yaxes(title=title, row=1, col=1)
    if quantity == "throughput":  # a tiny model and a large one in one plot
        fig.update_yaxes(type="log", dtick=1, tickformat=",")
    return fig


def scaling_sentence(records: Records, predictions: Predictions, quantity: str = "speed-up") -> str:
    """The speed-up of every load at the largest size of the learner's run, with its range."""
    record = parts.first(records, lambda one: any(row["speedup"] for row in parts.beyond_one(one)))
    if record is None:
        return "No run here holds TP=1 beside a larger size, so there is no speed-up to state."
    tp = max(row["tp"] for row in parts.beyond_one(record) if row["speedup"])
    rows = {load: row for load in numbers.LOADS if (row := numbers.at(record, load, tp)) and row["speedup"]}
    said = [
        f"{parts.LOADS[load]} {row['speedup']:.2f}× ({row['low']:.2f} to {row['high']:.2f})"
        for load, row in rows.items()
    ]
    equal = [parts.LOADS[load] for load, row in rows.items() if row["low"] <= 1 <= row["high"]]
    doubt = f" For {' and '.join(equal)} the repeats overlap those of TP=1." if equal else ""
    run = f"{parts.who(record)}, TP={tp} over TP=1 (range of the repeats)"
    return f"{run}: {', '.join(said)}; the ideal is {tp}×.{doubt}"


def scaling_table(records: Records, predictions: Predictions, quantity: str = "speed-up") -> Table:
    """Every run, load and size; the claim below them."""
    table: Table = [
        {
            "source": figure.source_label(record),
            "load": parts.LOADS[load],
            "TP": row["tp"],
            "output tok/s": row["tokens_per_s"],
            "repeats": row["summary"].n,
            "speed-up": row["speedup"],
            "range": parts.span(row["low"], row["high"]),
            "efficiency %": parts.scaled(row["efficiency"], 100),
        }
        for record in records
        for load in numbers.LOADS
        for row in numbers.scaling(record, load)
    ]
    return table + [
        {
            "source": "claim",
            "load": "not stated",
            "TP": row["tp"],
            "output tok/s": row["tokens_per_s"],
            "speed-up": row["speedup"],
            "efficiency %": parts.scaled(row["efficiency"], 100),
        }
        for row in numbers.claim()
    ]


def _panel_title(load: str, choice: Any) -> str:
    chosen = isinstance(choice, str) and choice.strip().lower() in (load, parts.LOADS[load])
    return parts.LOADS[load] + (" ★ your choice" if chosen else "")


def _error(rows: Sequence[dict[str, Any]], quantity: str) -> dict:
    if quantity == "throughput":
        ends = [
            {"middle": r["tokens_per_s"], "low": r["summary"].min, "high": r["summary"].max} for r in rows
        ]
        return parts.spread(ends, "middle", "low", "high")
    scaled = quantity == "efficiency"
    return parts.spread(
        [
            {
                key: parts.scaled(row[key], 100 / row["tp"] if scaled else 1)
                for key in ("speedup", "low", "high")
            }
            for row in rows
        ],
        "speedup",
        "low",
        "high",
    )


def _add_ideal(
    fig: go.Figure, records: Records, quantity: str, load: str, sizes: Sequence[int], col: int
) -> None:
    base = numbers.rate(records[0], 1, load).median if quantity == "throughput" else 1.0
    if base is None:
        return
    most = max([*sizes, *numbers.CLAIM])
    at = (lambda tp: 100.0) if quantity == "efficiency" else (lambda tp: base * tp)
    of = f"ideal: TP=1 × TP ({records[0].provenance.source})" if quantity == "throughput" else "ideal"
    xs = list(range(1, most + 1))
    fig.add_scatter(
        x=xs,
        y=[at(x) for x in xs],
        name=of,
        legendgroup="ideal",
        showlegend=col == 1,
        row=1,
        col=col,
        **theme.series_style(0, "reference"),
    )


def _mark_prediction(fig: go.Figure, records: Records, predictions: Predictions, quantity: str) -> None:
    said, record = parts.number(predictions, "W5.N3.P1"), parts.own(records)
    base = numbers.rate(record, 1, "saturated").median if record else None
    factor = {"speed-up": 1.0, "efficiency": 50.0, "throughput": base}[quantity]
    if said is not None and factor is not None:
        text = f"{said:.3g}× at TP=2"
        figure.prediction_marker(fig, 2, said * factor, text=text, row=1, col=1)


FIGURES = figure.registry(
    FigureSpec(
        "scaling",
        "What more devices bring, load by load",
        draw_scaling,
        scaling_sentence,
        scaling_table,
        controls={"quantity": Control("Show", tuple(QUANTITIES), kind="dropdown")},
    ),
    scaling_step.STEP,
    scaling_messages.MESSAGES,
    scaling_step.FLOOR,
    scaling_cost.SERIAL,
    scaling_cost.COST,
)
