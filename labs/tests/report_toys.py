"""Toy Records and figures for the tests of labs.report. Their numbers mean nothing."""

import statistics
from typing import Any

import plotly.graph_objects as go

from labs.core.record import Gate, Record
from labs.report import figure, theme
from labs.report.figure import Control, FigureSpec

STEM = "week5/99_toy"
OWN = {1: [61.0, 60.0, 62.5], 2: [48.0, 50.0, 47.0]}
RECORDED = {1: [7100.0, 7080.0], 2: [11800.0, 11900.0], 4: [17600.0, 17500.0]}


def record(
    steps: dict[int, list[float]], *, summary: str = "CPU, 2 cores, Toy", weights: Any = "tiny"
) -> Record:
    """A measured Record with one row a step."""
    rows = [{"kind": "step", "tp": tp, "tokens_per_s": x} for tp, xs in steps.items() for x in xs]
    return Record.new(
        STEM,
        config={"tp": list(steps), "seed": 0},
        samples=rows,
        seconds=12.5,
        weights=weights,
        model="tiny" if weights == "tiny" else "Qwen/Qwen2.5-7B-Instruct",
        profile="cpu" if summary.startswith("CPU") else "gpu",
        hardware={"summary": summary, "cpu_cores": 2, "memory_bytes": 24 * 2**30, "gpus": []},
        gates=[Gate(name="same greedy tokens", passed=True, value=0.0, tolerance=0.0)],
        notes=["a toy"],
    )


def own() -> Record:
    return record(OWN)


def recorded() -> Record:
    return record(RECORDED, summary="4x NVIDIA H200", weights="dummy").as_recorded("a toy")


def points(one: Record) -> list[tuple[int, float | None]]:
    values = {tp: one.values("step", "tokens_per_s", tp=tp) for tp in (1, 2, 4)}
    return [(tp, statistics.median(found) if found else None) for tp, found in values.items()]


def draw(records: Any, predictions: Any, scale: str = "linear", most: int = 4) -> go.Figure:
    if not any(one.rows("step") for one in records):
        return figure.empty_figure("No scaling run yet: lab.measure('scaling') makes one.")
    fig = go.Figure()
    for i, one in enumerate(records):
        found = [point for point in points(one) if point[0] <= most]
        fig.add_scatter(
            x=[tp for tp, _ in found],
            y=[value for _, value in found],
            name=figure.source_label(one),
            **theme.series_style(i, one.provenance.source),
        )
    figure.prediction_marker(fig, 2, figure.predicted(predictions, "W5.N9.P1"))
    fig.update_xaxes(title=theme.axis_title("Tensor-parallel size", "ranks"), tickvals=[1, 2, 4])
    fig.update_yaxes(title=theme.axis_title("Output throughput", "tokens/s"), type=scale)
    return fig


def sentence(records: Any, predictions: Any, scale: str = "linear", most: int = 4) -> str:
    (_, first), (_, second), *_ = points(records[0])
    two, one = figure.format_value(second), figure.format_value(first)
    return f"TP=2 writes {two} tokens/s, TP=1 {one} ({scale}, up to {most})."


def table(records: Any, predictions: Any, scale: str = "linear", most: int = 4) -> figure.Table:
    return [
        {"source": figure.source_label(one), "TP": tp, "throughput (tokens/s)": value}
        for one in records
        for tp, value in points(one)
    ]


SPEC = FigureSpec(
    "throughput",
    "Throughput at each TP size",
    draw,
    sentence,
    table,
    controls={
        "scale": Control("Vertical axis", ("linear", "log")),
        "most": Control("Largest TP size", (1, 2, 4), default=4, unit="ranks"),
    },
)
