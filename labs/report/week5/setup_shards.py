"""Figure of the setup notebook: which piece of which weight each rank holds, drawn as it is stored."""

from collections.abc import Sequence

import plotly.graph_objects as go

from labs.analysis.week5 import tensor_parallel_setup as numbers
from labs.analysis.week5 import tensor_parallel_shards as shards
from labs.analysis.week5.tensor_parallel_shards import Piece
from labs.core.record import Record
from labs.report import figure, theme
from labs.report.figure import Control, FigureSpec, Predictions, Table
from labs.report.week5 import setup_parts as parts

Records = parts.Records
LEAST_LABELLED = 0.06  # of the drawing's height: what a line of text needs


def draw_shards(
    records: Records, predictions: Predictions, weight: str, tp: int, beside: str | None
) -> go.Figure:
    """The weight as it is stored, [out, in], cut into the ranks' pieces; a copied one once for each rank."""
    shown = [record for record in parts.pair(records, beside) if shards.pieces(record, tp, weight)]
    if not shown:
        return figure.empty_figure(_why_not(records, weight, tp))
    fig = parts.panels([figure.source_label(record) for record in shown], shared=False)
    for col, record in enumerate(shown, 1):
        found, copied = shards.pieces(record, tp, weight), _copied(record, tp, weight)
        bottom = max(piece.rows[1] for piece in found)
        for rank in sorted({piece.rank for piece in found}):
            _draw_rank(fig, record, [p for p in found if p.rank == rank], bottom, col, copied)
        title = "Copies, by rank" if copied else theme.axis_title("Rows of the stored matrix", "out")
        fig.update_yaxes(title=title, row=1, col=col, **_rows_axis(record, weight, found, copied))
        right = max(piece.columns[1] for piece in found)
        ticks = sorted({0, right, *(p.columns[0] for p in found)})
        fig.update_xaxes(tickvals=ticks, range=[-0.01 * right, 1.01 * right], row=1, col=col)
    one_row = all(shards.pieces(record, tp, weight)[0].rows == (0, 1) for record in shown)
    title = "Elements" if one_row else theme.axis_title("Columns", "in")
    return fig.update_xaxes(title=title, showgrid=False, tickformat=",")


def shards_sentence(
    records: Records, predictions: Predictions, weight: str, tp: int, beside: str | None
) -> str:
    """How the weight is cut, the shapes, and what one rank holds of it."""
    shown = parts.pair(records, beside)
    record = parts.first(shown, lambda one: shards.pieces(one, tp, weight))
    assert record is not None  # draw_shards drew one
    rows = shards.shards(record, tp, weight)
    row, one = rows[-1], shards.shards(record, 1, weight)[0]
    held = f"{_shape(row['shape'])}, {parts.nbytes(row['bytes'])}"
    if tp == 1:
        return f"{parts.who(record)}: {weight} is {held}, and at TP=1 one rank holds all of it."
    if row["split"] == "replicated":
        return (
            f"{parts.who(record)}: {weight} {_shape(row['shape'])} is replicated; each rank holds all of it."
        )
    share, cut = parts.percent(row["bytes"] / one["bytes"], 4), parts.SPLITS[row["split"]]
    return (
        f"{parts.who(record)}: {weight} {_shape(one['shape'])} is {cut}; at TP={tp} each rank holds {held}, "
        f"{share} of it."
    )


def shards_table(
    records: Records, predictions: Predictions, weight: str, tp: int, beside: str | None
) -> Table:
    """Every run and rank: where its piece lies and what it weighs."""
    return [
        {
            "source": figure.source_label(record),
            "weight": weight,
            "rank": row["rank"],
            "cut": row["split"],
            "rows": _spans(record, tp, weight, row["rank"]),
            "columns": _columns(record, tp, weight, row["rank"]),
            "shape": _shape(row["shape"]),
            "dtype": row["dtype"],
            "KiB": row["bytes"] / 2**10,
        }
        for record in records
        for row in shards.shards(record, tp, weight)
    ]


def _copied(record: Record, tp: int, weight: str) -> bool:
    return tp > 1 and shards.shards(record, tp, weight)[0]["split"] == "replicated"


def _draw_rank(
    fig: go.Figure, record: Record, found: Sequence[Piece], rows: int, col: int, copied: bool
) -> None:
    """One trace a rank: all its blocks, each a closed outline, labelled where there is room."""
    rank, own = found[0].rank, record.provenance.source == "measured"
    xs: list[float | None] = []
    ys: list[float | None] = []
    for piece in found:
        (top, bottom), (left, right) = ((rank + 0.08, rank + 0.92) if copied else piece.rows), piece.columns
        xs += [left, right, right, left, left, None]
        ys += [top, top, bottom, bottom, top, None]
        if copied or bottom - top >= LEAST_LABELLED * rows:
            fig.add_annotation(
                x=(left + right) / 2, y=(top + bottom) / 2, text=f"rank {rank}", showarrow=False, row=1,
                col=col, font={"size": 12, "color": theme.INK}, bgcolor="rgba(255,255,255,0.82)", borderpad=1,
            )  # fmt: skip
    color = theme.COLORS[rank % len(theme.COLORS)]
    fig.add_scatter(
        x=xs,
        y=ys,
        fill="toself",
        mode="lines",
        fillcolor=theme.tint(color, 0.75 if own else 0.3),
        line={"color": theme.CARD if own else color, "width": 2, "dash": "solid" if own else "dash"},
        name=f"{record.provenance.source}: rank {rank}",
        showlegend=False,  # the name stands in each piece
        hoverinfo="name",
        meta={"source": record.provenance.source},
        row=1,
        col=col,
    )


def _rows_axis(record: Record, weight: str, found: Sequence[Piece], copied: bool) -> dict:
    """Ticks where a part or a block begins, the first row on top, as the tensor is printed."""
    if copied:
        ranks = sorted({piece.rank for piece in found})
        return {"tickvals": [rank + 0.5 for rank in ranks], "ticktext": ranks, "range": [len(ranks), 0]}
    bottom = max(piece.rows[1] for piece in found)
    starts = shards.part_starts(record, weight)
    ticks = {at: f"{part.removesuffix('_proj')} {at:,}" for part, at in starts.items()}
    ticks = ticks or {piece.rows[0]: f"{piece.rows[0]:,}" for piece in found}
    ticks[bottom] = f"{bottom:,}"
    spread = {"range": [1.015 * bottom, -0.015 * bottom], "showgrid": False}
    return {"tickvals": list(ticks), "ticktext": list(ticks.values()), **spread}


def _why_not(records: Records, weight: str, tp: int) -> str:
    if not any(record.rows("shard") for record in records):
        return parts.NO_RUN
    sizes = sorted({size for record in records for size in numbers.loaded(record)})
    if tp not in sizes:
        return f"No run here was loaded at TP={tp}; there are {', '.join(map(str, sizes))}."
    if any(shards.shards(record, tp, weight) for record in records):
        return parts.NO_WHOLE
    return f"No run here holds {weight} at TP={tp}."


def _spans(record: Record, tp: int, weight: str, rank: int) -> str:
    found = [piece for piece in shards.pieces(record, tp, weight) if piece.rank == rank]
    said = [f"{p.part.removesuffix('_proj')} {p.rows[0]:,}–{p.rows[1] - 1:,}".strip() for p in found]
    return ", ".join(said) or figure.NOT_MEASURED


def _columns(record: Record, tp: int, weight: str, rank: int) -> str:
    found = [piece for piece in shards.pieces(record, tp, weight) if piece.rank == rank]
    return f"{found[0].columns[0]:,}–{found[0].columns[1] - 1:,}" if found else figure.NOT_MEASURED


def _shape(shape: Sequence[int]) -> str:
    return f"[{', '.join(f'{size:,}' for size in shape)}]"


def _weights(records: Records) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in shards.weights(record)))


def _sizes(records: Records) -> list[int]:
    return sorted({tp for record in records for tp in numbers.loaded(record)})


SHARDS = FigureSpec(
    "shards",
    "Who holds which piece of a weight",
    draw_shards,
    shards_sentence,
    shards_table,
    controls={
        "weight": Control("Weight", _weights, default="qkv_proj", kind="dropdown"),
        "tp": Control("TP size", _sizes, default=2),
        "beside": parts.BESIDE,
    },
)
