"""Figures of notebook week5/01_tensor_parallel_setup; this module draws start-up and the KV cache's capacity.

setup_holdings.py draws what a rank holds of all weights, setup_shards.py the pieces of one weight,
setup_memory.py memory by rank, setup_agreement.py how far log-probabilities differ; setup_parts.py holds what
they share.
"""

import plotly.graph_objects as go

from labs.analysis.week5 import tensor_parallel_setup as numbers
from labs.core.record import Record
from labs.report import figure, theme
from labs.report.figure import FigureSpec, Predictions, Table
from labs.report.week5 import setup_agreement, setup_holdings, setup_memory, setup_shards
from labs.report.week5 import setup_parts as parts

Records = parts.Records
STAGES = {
    "import_s": "imports (Python, torch, vLLM)",
    "load_s": "engine (weights, KV cache, graphs)",
    "generate_s": "the sample answers (on the bar: start-up / answers)",
}
CLAIM = "claim of the source document: 4 GPUs, 4 times the memory"


def draw_start(records: Records, predictions: Predictions, beside: str | None) -> go.Figure:
    """Stacked seconds by TP size: imports, engine, and the first answers on top."""
    shown = [record for record in parts.pair(records, beside) if record.rows("load")]
    if not shown:
        return figure.empty_figure(parts.NO_RUN)
    fig = parts.run_panels(shown)
    for col, record in enumerate(shown, 1):
        rows = {_tick(tp): numbers.start_up(record, tp) for tp in numbers.loaded(record)}
        parts.stack(fig, record, rows, STAGES, col, legend=col == 1)
        for tick, row in rows.items():
            if row["ratio"] and row["total_s"] and row["generate_s"]:
                top = row["total_s"] + row["generate_s"]
                parts.above(fig, col, tick, top, f"{figure.format_value(row['ratio'], 2)}×")
    _mark_start(fig, shown, predictions)
    fig.update_xaxes(title="TP size")
    return fig.update_yaxes(title=theme.axis_title("Time, slowest rank", "s"))


def start_sentence(records: Records, predictions: Predictions, beside: str | None) -> str:
    """Imports, engine and their ratio to the answers at the largest size."""
    record = parts.first(parts.pair(records, beside), lambda one: one.rows("load"))
    assert record is not None  # draw_start drew one
    tp = max(numbers.loaded(record))
    row = numbers.start_up(record, tp)
    seconds = {key: figure.format_value(value, 3) for key, value in row.items()}
    times = f", {seconds['ratio']} times as long as the sample answers" if row["ratio"] else ""
    return (
        f"{parts.who(record)}, TP={tp}: ready after {seconds['total_s']} s{times}; "
        f"imports took {seconds['import_s']} s, the engine {seconds['load_s']} s."
    )


def start_table(records: Records, predictions: Predictions, beside: str | None) -> Table:
    """Every run and size, seconds of the rank that was ready last."""
    return [
        {
            "source": figure.source_label(record),
            "TP": tp,
            "imports s": row["import_s"],
            "engine s": row["load_s"],
            "start-up s": row["total_s"],
            "sample answers s": row["generate_s"],
            "start-up / answers": row["ratio"],
        }
        for record in records
        for tp in numbers.loaded(record)
        for row in [numbers.start_up(record, tp)]
    ]


def draw_capacity(records: Records, predictions: Predictions) -> go.Figure:
    """Tokens in the KV cache relative to TP=1, with the ideal and the source document's claim."""
    shown = [record for record in records if any(row["ratio"] for row in numbers.capacity(record))]
    if not shown:
        return figure.empty_figure("No run here opened an engine at TP=1, so there is nothing to relate to.")
    fig = go.Figure()
    for i, record in enumerate(shown):
        rows = numbers.capacity(record)
        fig.add_scatter(
            x=[row["tp"] for row in rows],
            y=[row["ratio"] for row in rows],
            name=figure.source_label(record),
            **theme.series_style(i, record.provenance.source),
        )
    fig.add_scatter(x=[1, 4], y=[1, 4], name=CLAIM, **theme.series_style(0, "reference"))
    mine = parts.own(shown)
    largest = parts.largest_below(numbers.loaded(mine)) if mine else None
    said = parts.number(predictions, "W5.N1.P3")
    if largest and said is not None:
        figure.prediction_marker(fig, largest, said, text=f"{said:.3g}× at TP={largest}")
    ticks = sorted({4, *(tp for record in shown for tp in numbers.loaded(record))})
    fig.update_xaxes(title=theme.axis_title("TP size", "ranks"), tickvals=ticks)
    return fig.update_yaxes(title=theme.axis_title("KV cache, tokens relative to TP=1", "×"))


def capacity_sentence(records: Records, predictions: Predictions) -> str:
    """Tokens at the largest size, and how many times those of TP=1."""
    record = parts.first(records, _beyond)
    if record is None:
        return "These runs stay at TP=1; a second rank would add its own memory for keys and values."
    row = numbers.capacity(record)[-1]
    return (
        f"{parts.who(record)}: at TP={row['tp']} the KV cache holds {figure.format_value(row['tokens'])} "
        f"tokens, {figure.format_value(row['ratio'], 3)} times as many as at TP=1."
    )


def capacity_table(records: Records, predictions: Predictions) -> Table:
    """Every run and size."""
    return [
        {
            "source": figure.source_label(record),
            "TP": row["tp"],
            "KV tokens": row["tokens"],
            "× TP=1": row["ratio"],
            "KV cache GiB/rank": parts.scaled(row["kv_bytes"], 2**-30),
            "KV heads/rank": row["kv_heads"],
            "bytes a token and rank": row["token_bytes"],
        }
        for record in records
        for row in numbers.capacity(record)
    ]


def _tick(tp: int) -> str:
    return f"TP={tp}"


def _beyond(record: Record) -> bool:
    rows = numbers.capacity(record)
    return bool(rows and rows[-1]["tp"] > 1 and rows[-1]["ratio"])


def _mark_start(fig: go.Figure, shown: Records, predictions: Predictions) -> None:
    said, record = parts.number(predictions, "W5.N1.P1"), parts.own(shown)
    if said is None or record is None:
        return
    tp = max(numbers.loaded(record))
    answers = numbers.start_up(record, tp)["generate_s"]
    if answers:
        col = 1 + list(shown).index(record)
        text = f"{said:.3g}× the answers"
        figure.prediction_marker(fig, _tick(tp), said * answers, text=text, row=1, col=col)


FIGURES = figure.registry(
    FigureSpec(
        "start",
        "What starting costs",
        draw_start,
        start_sentence,
        start_table,
        controls={"beside": parts.BESIDE},
    ),
    setup_holdings.HOLDINGS,
    setup_shards.SHARDS,
    setup_memory.MEMORY,
    FigureSpec("capacity", "Room in the KV cache", draw_capacity, capacity_sentence, capacity_table),
    setup_agreement.DIFFERENCES,
)
