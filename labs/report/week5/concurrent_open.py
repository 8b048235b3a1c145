"""Figures of the open loop: both loops as one curve of latency over throughput, and goodput under limits."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from labs.analysis.week5 import concurrent_requests as numbers
from labs.core.record import Record
from labs.report import figure, theme
from labs.report.figure import Control, FigureSpec, Predictions, Table
from labs.report.week5 import concurrent_parts as parts

Records = Sequence[Record]
NO_OPEN = "No open-loop run yet: lab.measure('server') makes one, and no recorded run is kept."
LOOPS = {"closed": "closed loop", "open": "open loop"}
TTFT_LIMITS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # ms
TPOT_LIMITS = (2, 3, 5, 7, 10, 15, 20, 30, 50, 100)  # ms
CLOCKS = ("intended", "actual")


def draw_curve(
    records: Records, predictions: Predictions, latency: str = "E2E", p: int | None = 50
) -> go.Figure:
    """A curve a loop and run: latency over throughput; labels name the load of the first run's points."""
    if not any(numbers.sweep(record, loop) for record in records for loop in LOOPS):
        return figure.empty_figure(NO_OPEN)
    fig = go.Figure()
    for i, record in enumerate(records):
        for j, (loop, name) in enumerate(LOOPS.items()):
            points = numbers.sweep(record, loop)
            mode = "lines+markers+text" if i == 0 else "lines+markers"  # labels of two runs would overlap
            style = theme.series_style(2 * i + j, record.provenance.source, mode)
            fig.add_scatter(
                x=[point["tokens_per_s"] for point in points],
                y=[parts.at(record, point["run"], latency, p) for point in points],
                text=[_load(point) for point in points],
                textposition="top left" if loop == "closed" else "bottom right",
                textfont={"size": 11},
                hovertemplate="%{text}: %{x:,.0f} tokens/s, %{y:,.1f} ms<extra></extra>",
                name=f"{name}, {figure.source_label(record)}",
                **style,
            )
    fig.update_xaxes(
        title=theme.axis_title("Output rate", "tokens/s"), type="log", dtick="D2", tickformat=","
    )
    fig.update_yaxes(
        title=theme.axis_title(f"{latency}, {parts.nth(p)}", "ms"),
        type="log",
        dtick="D2",
        rangemode="normal",
        tickformat=",",
    )
    return fig


def curve_sentence(
    records: Records, predictions: Predictions, latency: str = "E2E", p: int | None = 50
) -> str:
    """The busiest open-loop run beside the closed-loop run of the nearest throughput."""
    record = parts.first(records, lambda one: _known(one, "open"))
    if record is None:
        return "Only one of the two loops was measured."
    busiest = max(_known(record, "open"), key=lambda point: point["rate"])
    said = (
        f"{parts.who(record)}: offered {parts.with_unit(busiest['rate'], 'requests/s')}, the open loop makes "
        f"{figure.format_value(busiest['tokens_per_s'])} tokens/s at {latency} {parts.nth(p)} "
        f"{parts.with_unit(parts.at(record, busiest['run'], latency, p), 'ms')} (n={busiest['n']})"
    )
    closed = _known(record, "closed")
    if closed:
        near = min(closed, key=lambda point: abs(point["tokens_per_s"] - busiest["tokens_per_s"]))
        value = parts.with_unit(parts.at(record, near["run"], latency, p), "ms")
        said += (
            f"; the closed loop nearest to it makes {figure.format_value(near['tokens_per_s'])} with "
            f"{near['concurrency']} clients, at {value} (n={near['n']})"
        )
    return f"{said}. {parts.late(busiest)}"


def curve_table(
    records: Records, predictions: Predictions, latency: str = "E2E", p: int | None = 50
) -> Table:
    """Every point of both loops."""
    return [
        {
            "source": figure.source_label(record),
            "loop": name,
            "load": _load(point),
            "output tok/s": point["tokens_per_s"],
            f"{latency} {parts.nth(p)} ms": parts.at(record, point["run"], latency, p),
            "requests": point["n"],
            **parts.lateness(point),
        }
        for record in records
        for loop, name in LOOPS.items()
        for point in numbers.sweep(record, loop)
    ]


def draw_goodput(
    records: Records,
    predictions: Predictions,
    ttft_ms: float = 200,
    tpot_ms: float = 20,
    clock: str = "intended",
) -> go.Figure:
    """TTFT over the offered rate with its limit; beside it what was served, and what was served in time."""
    if not any(numbers.open_loop(record, ttft_ms, tpot_ms) for record in records):
        return figure.empty_figure(NO_OPEN)
    fig = parts.panels(["TTFT, median and p90", "Completed, and within both limits"], shared=False)
    for i, record in enumerate(records):
        rows = numbers.open_loop(record, ttft_ms, tpot_ms, clock)
        source, label = record.provenance.source, figure.source_label(record)
        for col, column, name, index in (
            (1, "ttft_p50_ms", "left: median, right: within limits", 2 * i),
            (1, "ttft_p90_ms", "left: p90, right: all completed", 2 * i + 1),
            (2, "goodput", "left: median, right: within limits", 2 * i),
            (2, "served", "left: p90, right: all completed", 2 * i + 1),
        ):
            fig.add_scatter(
                x=[row["rate"] for row in rows],
                y=[row[column] for row in rows],
                name=f"{name}; {label}",
                legendgroup=str(index),
                showlegend=col == 1,
                row=1,
                col=col,
                **theme.series_style(index, source),
            )
    line = {"color": theme.INK, "width": 1.5, "dash": "dot"}
    fig.add_hline(
        y=ttft_ms,
        line=line,
        name="left: limit of TTFT, right: completed as offered",
        showlegend=True,
        row=1,
        col=1,
    )
    most = max(row["rate"] for record in records for row in numbers.open_loop(record, ttft_ms, tpot_ms))
    fig.add_shape(type="line", x0=0, y0=0, x1=most, y1=most, line=line, row=1, col=2)
    _mark_prediction(fig, parts.own(records), predictions, ttft_ms, tpot_ms)
    fig.update_xaxes(title=theme.axis_title("Offered rate", "requests/s"), range=[0, 1.06 * most])
    fig.update_yaxes(
        title=theme.axis_title("TTFT", "ms"),
        type="log",
        dtick="D2",
        rangemode="normal",
        tickformat=",",
        row=1,
        col=1,
    )
    fig.update_yaxes(title=theme.axis_title("Completed rate", "requests/s"), row=1, col=2)
    return fig


def goodput_sentence(
    records: Records,
    predictions: Predictions,
    ttft_ms: float = 200,
    tpot_ms: float = 20,
    clock: str = "intended",
) -> str:
    """Where goodput peaks, what is left of it at the highest rate, and how late the client was."""
    record = parts.first(records, lambda one: numbers.open_loop(one, ttft_ms, tpot_ms))
    assert record is not None  # draw_goodput had rows
    rows = [row for row in numbers.open_loop(record, ttft_ms, tpot_ms, clock) if row["goodput"] is not None]
    if not rows:
        return f"{parts.who(record)}: no request of the open loop was completed."
    best, last = max(rows, key=lambda row: row["goodput"]), rows[-1]
    limits = f"TTFT up to {ttft_ms:g} ms and TPOT up to {tpot_ms:g} ms, clock from the {clock} send"
    (busiest,) = [point for point in numbers.sweep(record, "open") if point["run"] == last["run"]]
    return (
        f"{parts.who(record)}, {limits}: goodput is greatest at {best['rate']:.3g} requests/s offered, "
        f"{best['goodput']:.3g} requests/s (n={best['n']}). At {last['rate']:.3g} offered, "
        f"{last['served']:.3g} are completed and {last['goodput']:.3g} in time (n={last['n']}), "
        f"with a median TTFT of {parts.with_unit(last['ttft_p50_ms'], 'ms')}. {parts.late(busiest)}"
    )


def goodput_table(
    records: Records,
    predictions: Predictions,
    ttft_ms: float = 200,
    tpot_ms: float = 20,
    clock: str = "intended",
) -> Table:
    """Every offered rate of every run."""
    return [
        {
            "source": figure.source_label(record),
            "offered requests/s": row["rate"],
            "completed requests/s": row["served"],
            "goodput requests/s": row["goodput"],
            "within limits %": None if row["good_share"] is None else 100 * row["good_share"],
            "TTFT median ms": row["ttft_p50_ms"],
            "TTFT p90 ms": row["ttft_p90_ms"],
            "requests": row["n"],
            **parts.lateness(point),
        }
        for record in records
        for row in numbers.open_loop(record, ttft_ms, tpot_ms, clock)
        for point in numbers.sweep(record, "open")
        if point["run"] == row["run"]
    ]


def _load(point: dict[str, Any]) -> str:
    return f"{point['concurrency']}" if point["mode"] == "closed" else f"{point['rate']:.3g}/s"


def _known(record: Record, loop: str) -> list[dict[str, Any]]:
    return [point for point in numbers.sweep(record, loop) if point["tokens_per_s"] is not None]


def _mark_prediction(
    fig: go.Figure, record: Record | None, predictions: Predictions, ttft_ms: float, tpot_ms: float
) -> None:
    said = parts.number(predictions, "W5.N2.P3")
    rows = numbers.open_loop(record, ttft_ms, tpot_ms) if record else []
    if said is not None and rows and rows[0]["ttft_p50_ms"]:
        text = f"{said:.3g}× the median TTFT of the lowest rate"
        figure.prediction_marker(
            fig, rows[-1]["rate"], said * rows[0]["ttft_p50_ms"], text=text, row=1, col=1
        )


CURVE = FigureSpec(
    "curve",
    "Latency against throughput, closed and open loop",
    draw_curve,
    curve_sentence,
    curve_table,
    controls={
        "latency": Control("Latency", ("E2E", "TTFT", "TPOT"), kind="dropdown"),
        "p": parts.percentiles("closed", "open"),
    },
)
GOODPUT = FigureSpec(
    "goodput",
    "Offered, served, and served in time",
    draw_goodput,
    goodput_sentence,
    goodput_table,
    controls={
        "ttft_ms": Control("Limit of TTFT", TTFT_LIMITS, default=200, unit="ms"),
        "tpot_ms": Control("Limit of TPOT", TPOT_LIMITS, default=20, unit="ms"),
        "clock": Control("Clock starts at the send that was", CLOCKS, kind="dropdown"),
    },
)
