"""Figure of the setup notebook: what one rank holds of all the weights, by the way in which they are cut."""

import plotly.graph_objects as go

from labs.analysis.week5 import tensor_parallel_setup as numbers
from labs.analysis.week5 import tensor_parallel_shards as shards
from labs.core.record import Record
from labs.report import figure, theme
from labs.report.figure import FigureSpec, Predictions, Table
from labs.report.week5 import setup_parts as parts

Records = parts.Records
EVEN = "an even split, 1/TP"


def draw_holdings(records: Records, predictions: Predictions, beside: str | None) -> go.Figure:
    """Stacked bars: weight bytes of rank 1 (rank 0 at TP=1), by kind of cut, in per cent of the whole."""
    shown = [record for record in parts.pair(records, beside) if shards.held(record, 1, 0)]
    if not shown:
        return figure.empty_figure(
            parts.NO_WHOLE if any(record.rows("shard") for record in records) else parts.NO_RUN
        )
    fig = parts.run_panels(shown)
    for col, record in enumerate(shown, 1):
        bars = {_tick(tp): _percents(record, tp) for tp in numbers.loaded(record)}
        parts.stack(fig, record, bars, parts.SPLITS, col, legend=col == 1)
        for tick, values in bars.items():
            parts.above(fig, col, tick, sum(values.values()), f"{sum(values.values()):.4g} %")
        fig.add_scatter(
            x=list(bars),
            y=[100 / tp for tp in numbers.loaded(record)],
            name=EVEN,
            showlegend=col == 1,
            mode="markers",
            marker={"symbol": "line-ew-open", "size": 46, "color": theme.INK, "line": {"width": 2.5}},
            meta={"source": "reference"},
            row=1,
            col=col,
        )
    mine, said = parts.own(shown), parts.number(predictions, "W5.N1.P2")
    if mine and said is not None and 2 in numbers.loaded(mine):
        text = f"{said:.3g} % at TP=2"
        figure.prediction_marker(fig, _tick(2), said, text=text, row=1, col=1 + shown.index(mine))
    fig.update_xaxes(title="TP size")
    return fig.update_yaxes(title=theme.axis_title("Weights of one rank, of TP=1's", "%"))


def holdings_sentence(records: Records, predictions: Predictions, beside: str | None) -> str:
    """Share of one rank at the largest size, and how much of the whole is replicated."""
    record = parts.first(parts.pair(records, beside), lambda one: shards.held(one, 1, 0))
    assert record is not None  # draw_holdings drew one
    tp, one = max(numbers.loaded(record)), shards.held(record, 1, 0)
    copied = parts.percent(one["replicated"] / sum(one.values()), 2)
    share = parts.percent(shards.share(record, tp, min(1, tp - 1)), 4)
    return (
        f"{parts.who(record)}, TP={tp}: one rank holds {share} of the {parts.nbytes(sum(one.values()))} of "
        f"weights; {copied} of them are replicated on every rank."
    )


def holdings_table(records: Records, predictions: Predictions, beside: str | None) -> Table:
    """Every run and size: MiB of one rank by kind of cut, and its share."""
    return [
        {
            "source": figure.source_label(record),
            "TP": tp,
            "rank": min(1, tp - 1),
            **parts.cells(shards.held(record, tp, min(1, tp - 1)), 2**20, "MiB"),
            "share of TP=1 %": parts.scaled(shards.share(record, tp, min(1, tp - 1)), 100),
        }
        for record in records
        for tp in numbers.loaded(record)
        if shards.held(record, tp, 0)
    ]


def _tick(tp: int) -> str:
    return f"TP={tp}"


def _percents(record: Record, tp: int) -> dict[str, float]:
    total = sum(shards.held(record, 1, 0).values())
    return {split: 100 * size / total for split, size in shards.held(record, tp, min(1, tp - 1)).items()}


HOLDINGS = FigureSpec(
    "holdings",
    "What one rank holds of the weights",
    draw_holdings,
    holdings_sentence,
    holdings_table,
    controls={"beside": parts.BESIDE},
)
