"""Figures of notebook week5/02_concurrent_requests; this module draws the closed-loop sweep.

concurrent_open.py draws the open loop, concurrent_clients.py fairness and its timeline, concurrent_batch.py
the server beside the offline engine.
"""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from labs.analysis.week5 import concurrent_requests as numbers
from labs.core.record import Record
from labs.report import figure, theme
from labs.report.figure import FigureSpec, Predictions, Table
from labs.report.week5 import concurrent_batch, concurrent_clients, concurrent_open
from labs.report.week5 import concurrent_parts as parts

Records = Sequence[Record]
NO_SWEEP = "No closed-loop sweep yet: lab.measure('server') makes one, and no recorded run is kept."


def draw_sweep(
    records: Records, predictions: Predictions, latency: str = "TTFT", p: int | None = 50
) -> go.Figure:
    """Throughput, and one latency's percentile, over the number of clients; both axes logarithmic."""
    levels = sorted({point["concurrency"] for one in records for point in numbers.sweep(one, "closed")})
    if not levels:
        return figure.empty_figure(NO_SWEEP)
    fig = parts.panels(["Throughput", f"{latency}, {parts.nth(p)}"], shared=False)
    for i, record in enumerate(records):
        points = numbers.sweep(record, "closed")
        columns = [
            [point["tokens_per_s"] for point in points],
            [parts.at(record, point["run"], latency, p) for point in points],
        ]
        for col, values in enumerate(columns, 1):
            fig.add_scatter(
                x=[point["concurrency"] for point in points],
                y=values,
                name=figure.source_label(record),
                legendgroup=str(i),
                showlegend=col == 1,
                row=1,
                col=col,
                **theme.series_style(i, record.provenance.source),
            )
            _mark_knee(fig, record, i, values, col)
    _add_proportional(fig, records[0])
    _add_slots(fig, records)
    _mark_predictions(fig, parts.own(records), predictions, latency, p)
    ticks = levels if len(levels) <= 6 else levels[::2]
    fig.update_xaxes(
        title="Clients at a time (closed loop)", type="log", tickvals=ticks, ticktext=[str(n) for n in ticks]
    )
    fig.update_yaxes(type="log", dtick="D2", rangemode="normal", tickformat=",")
    fig.update_yaxes(title=theme.axis_title("Output rate", "tokens/s"), row=1, col=1)
    fig.update_yaxes(title=theme.axis_title(latency, "ms"), row=1, col=2)
    return fig


def sweep_sentence(
    records: Records, predictions: Predictions, latency: str = "TTFT", p: int | None = 50
) -> str:
    """Growth of throughput, the knee in words, the latency there, and how late the client was."""
    record = parts.first(records, lambda one: numbers.sweep(one, "closed"))
    assert record is not None  # draw_sweep had points
    points = [q for q in numbers.sweep(record, "closed") if q["tokens_per_s"] is not None]
    if not points:
        return f"{parts.who(record)}: no request of the sweep was completed."
    least, most = parts.ends(points, "concurrency")
    grown = numbers.ratio(most["tokens_per_s"], least["tokens_per_s"])
    said = (
        f"{parts.who(record)}: {most['concurrency']} clients get {figure.format_value(grown, 3)} times the "
        f"throughput of {least['concurrency']}."
    )
    return f"{said} {_knee_text(record, points, latency, p)} {parts.late(most)}"


def sweep_table(
    records: Records, predictions: Predictions, latency: str = "TTFT", p: int | None = 50
) -> Table:
    """Every run and concurrency, with Little's product and the client's lateness."""
    return [
        {
            "source": figure.source_label(record),
            "TP": numbers.tp(record),
            "clients": point["concurrency"],
            "output tok/s": point["tokens_per_s"],
            "requests/s": point["requests_per_s"],
            f"{latency} {parts.nth(p)} ms": parts.at(record, point["run"], latency, p),
            "mean E2E ms": point["e2e_ms"].mean,
            "requests/s × mean E2E": point["little"],
            "queued in the engine ms": point["engine_queue_ms"],
            "requests": point["n"],
            **parts.lateness(point),
        }
        for record in records
        for point in numbers.sweep(record, "closed")
    ]


def _knee_text(record: Record, points: Sequence[dict[str, Any]], latency: str, p: int | None) -> str:
    knee = numbers.knee(record)
    if knee is None:
        return "Fewer than three points were measured, so there is no knee."
    (there,) = [point for point in points if point["concurrency"] == knee.load][:1]
    value = parts.at(record, there["run"], latency, p)
    edge = "" if knee.inside else ", an end of the sweep, so it may lie beyond"
    return (
        f"The knee, where requests/s divided by median E2E are greatest, is at {knee.load:g} clients{edge}: "
        f"{figure.format_value(there['tokens_per_s'])} tokens/s and {latency} {parts.nth(p)} "
        f"{parts.with_unit(value, 'ms')} (n={there['n']} requests)."
    )


def _mark_knee(fig: go.Figure, record: Record, index: int, values: Sequence[Any], col: int) -> None:
    knee = numbers.knee(record)
    for point, y in zip(numbers.sweep(record, "closed"), values, strict=True):
        if knee and y and point["concurrency"] == knee.load:
            fig.add_annotation(
                x=math.log10(knee.load),
                y=math.log10(y),
                text="knee",
                font={"color": theme.COLORS[index % len(theme.COLORS)]},
                ax=26 if col == 1 else -26,
                ay=30 if col == 1 else -34,
                arrowhead=2,
                arrowwidth=1.5,
                row=1,
                col=col,
            )


def _add_proportional(fig: go.Figure, record: Record) -> None:
    points = [point for point in numbers.sweep(record, "closed") if point["tokens_per_s"] is not None]
    if points:
        first = min(points, key=lambda point: point["concurrency"])
        xs = [point["concurrency"] for point in points]
        fig.add_scatter(
            x=xs,
            y=[first["tokens_per_s"] * x / first["concurrency"] for x in xs],
            name=f"as if each client added what the first did ({record.provenance.source})",
            row=1,
            col=1,
            **theme.series_style(0, "reference"),
        )


def _add_slots(fig: go.Figure, records: Records) -> None:
    """Where the scheduler's slots end: past this line requests wait in its queue."""
    slots = records[0].config.get("max_num_seqs")
    levels = [point["concurrency"] for point in numbers.sweep(records[0], "closed")]
    if slots and levels and slots < max(levels):
        line = {"color": theme.MUTED, "width": 1.2, "dash": "dot"}
        for col in (1, 2):
            fig.add_vline(x=slots, line=line, row=1, col=col)
        fig.add_annotation(
            x=math.log10(slots),
            y=0.02,
            yref="y2 domain",
            text=f"{slots} slots ({records[0].provenance.source})",
            showarrow=False,
            xanchor="right",
            xshift=-4,
            yanchor="bottom",
            font={"size": 12, "color": theme.MUTED},
            row=1,
            col=2,
        )


def _mark_predictions(
    fig: go.Figure, record: Record | None, predictions: Predictions, latency: str, p: int | None
) -> None:
    points = numbers.sweep(record, "closed") if record else []
    if record is None or not points:
        return
    least, most = parts.ends(points, "concurrency")
    said, base = parts.number(predictions, "W5.N2.P2"), least["tokens_per_s"]
    if said is not None and base:
        text = f"{said:.3g}× the throughput of {least['concurrency']}"
        figure.prediction_marker(fig, most["concurrency"], said * base, text=text, row=1, col=1)
    said, tpot = parts.number(predictions, "W5.N2.P1"), parts.at(record, "alone", "TPOT", 50)
    if said is not None and tpot and latency == "TTFT" and p == 50 and least["concurrency"] == 1:
        text = f"TTFT alone is {said:.3g}× TPOT"
        figure.prediction_marker(fig, 1, said * tpot, text=text, row=1, col=2)


SWEEP = FigureSpec(
    "sweep",
    "What more clients bring, and what they pay",
    draw_sweep,
    sweep_sentence,
    sweep_table,
    controls={
        "latency": parts.LATENCY,
        "p": parts.percentiles("closed"),
    },
)

FIGURES = figure.registry(
    SWEEP,
    concurrent_open.CURVE,
    concurrent_open.GOODPUT,
    concurrent_clients.FAIRNESS,
    concurrent_clients.TIMELINE,
    concurrent_batch.BATCH,
)
