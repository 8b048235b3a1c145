"""Figure of the setup notebook: what the memory of each rank is made of, and whether it is about equal."""

from typing import Any

import plotly.graph_objects as go

from labs.analysis.week5 import tensor_parallel_setup as numbers
from labs.core.record import Record
from labs.report import figure, theme
from labs.report.figure import Control, FigureSpec, Predictions, Table
from labs.report.week5 import setup_parts as parts

Records = parts.Records
SHOW = ("all memory", "weights only")
LABELS = {
    "before": "in use before the engine",
    "weights": "weights",
    "kv": "KV cache",
    "rest": "the rest",
}


def draw_memory(
    records: Records, predictions: Predictions, tp: int, show: str, beside: str | None
) -> go.Figure:
    """Stacked bars by rank: before the engine, weights, KV cache, rest; or the weights alone."""
    shown = [record for record in parts.pair(records, beside) if numbers.memory(record, tp)]
    if not shown:
        sizes = sorted({size for record in records for size in numbers.loaded(record)})
        said = f"No run here was loaded at TP={tp}; there are {', '.join(map(str, sizes))}."
        return figure.empty_figure(said if sizes else parts.NO_RUN)
    fig = parts.run_panels(shown)
    labels = LABELS if show == SHOW[0] else {"weights": LABELS["weights"]}
    for col, record in enumerate(shown, 1):
        rows = numbers.memory(record, tp)
        unit, factor = parts.unit_of(max(_height(row, labels) for row in rows))
        bars = {
            f"rank {row['rank']}": {part: parts.scaled(row[part], 1 / factor) for part in labels}
            for row in rows
        }
        parts.stack(fig, record, bars, labels, col, legend=col == 1)
        for row in rows:
            height = _height(row, labels)
            parts.above(fig, col, f"rank {row['rank']}", height / factor, parts.nbytes(height, 3))
        fig.update_yaxes(title=theme.axis_title(_quantity(record, show), unit), row=1, col=col)
        _mark(fig, record, predictions, tp, show, factor, col)
    return fig.update_xaxes(title=f"Ranks at TP={tp}")


def memory_sentence(
    records: Records, predictions: Predictions, tp: int, show: str, beside: str | None
) -> str:
    """The verdict on "about equal", for the weights and for all that is in use."""
    record = parts.first(parts.pair(records, beside), lambda one: numbers.memory(one, tp))
    assert record is not None  # draw_memory drew one
    said = [
        f"{name} {_verdict(record, tp, column)}"
        for name, column in (("weights", "weight_bytes"), ("memory in use", "used_bytes"))
    ]
    if tp == 1:
        row = numbers.memory(record, 1)[0]
        return (
            f"{parts.who(record)}, TP=1: one rank, nothing to compare. Weights are "
            f"{parts.nbytes(row['weights'])} of {parts.nbytes(row['used'])} in use."
        )
    ratio = parts.percent(numbers.used_ratio(record, tp))
    more = f" A rank uses {ratio} of what it uses at TP=1." if numbers.used_ratio(record, tp) else ""
    return f"{parts.who(record)}, TP={tp}, between its ranks: {'; '.join(said)}.{more}"


def memory_table(records: Records, predictions: Predictions, tp: int, show: str, beside: str | None) -> Table:
    """Every rank of every run at this size, and a last row a run with spread and verdict."""
    table: Table = []
    for record in records:
        source, rows = figure.source_label(record), numbers.memory(record, tp)
        for row in rows:
            sizes = {LABELS.get(key, "in use"): value for key, value in row.items() if key != "rank"}
            table.append({"source": source, "rank": row["rank"], **parts.cells(sizes, 2**20, "MiB")})
        if len(rows) > 1:
            last: dict[str, Any] = {"source": source, "rank": "about equal?"}
            for key in (*LABELS, "used"):
                name = f"{LABELS.get(key, 'in use')} MiB"
                last[name] = _cell(numbers.about_equal([row[key] for row in rows], numbers.within(record)))
            table.append(last)
    return table


def _height(row: dict[str, int | None], labels: dict[str, str]) -> int:
    return sum(row[part] or 0 for part in labels)


def _quantity(record: Record, show: str) -> str:
    if show == SHOW[1]:
        return "Weights"
    return "Memory of the GPU" if record.provenance.profile == "gpu" else "Memory of the process"


def _verdict(record: Record, tp: int, column: str) -> str:
    found = numbers.about_equal(numbers.rank_bytes(record, tp, column), numbers.within(record))
    if found is None:
        return figure.NOT_MEASURED
    equal = "about equal" if found["equal"] else "not equal"
    return (
        f"{equal} (spread {parts.percent(found['spread'], 2)}, up to "
        f"{parts.percent(found['within'], 2)} passes)"
    )


def _cell(found: dict[str, Any] | None) -> str | None:
    if found is None:
        return None
    return f"{'yes' if found['equal'] else 'no'}, spread {parts.percent(found['spread'], 2)}"


def _mark(
    fig: go.Figure, record: Record, predictions: Predictions, tp: int, show: str, factor: int, col: int
) -> None:
    """The prediction of the total, which is about the largest size, in the learner's own panel."""
    said = parts.number(predictions, "W5.N1.P4")
    one = next(iter(numbers.rank_bytes(record, 1, "used_bytes")), None)
    own = record.provenance.source == "measured"
    if own and said is not None and one and show == SHOW[0] and tp == max(numbers.loaded(record)) > 1:
        text = f"{said:.3g} % of TP=1"
        figure.prediction_marker(fig, "rank 0", said / 100 * one / factor, text=text, row=1, col=col)


def _sizes(records: Records) -> list[int]:
    return sorted({tp for record in records for tp in numbers.loaded(record)})


MEMORY = FigureSpec(
    "memory",
    "What the memory of a rank is made of",
    draw_memory,
    memory_sentence,
    memory_table,
    controls={
        "tp": Control("TP size", _sizes, default=2),
        "show": Control("Show", SHOW, kind="dropdown"),
        "beside": parts.BESIDE,
    },
)
