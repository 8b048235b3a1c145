"""What figures share: the name of a source, the learner's prediction, gaps, and how a value is written.

Import these from `labs.report.figure`, which passes them on.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from labs.core.record import Record
from labs.report import theme

NOT_MEASURED = "not measured"
Predictions = Mapping[str, Any]  # id ("W5.N3.P1") -> the value given; an absent id or None: no prediction yet


def source_label(record: Record) -> str:
    """`measured: CPU, 2 cores …` or `recorded: 4x NVIDIA H200`: the name that every trace carries.

    The weights stand with it where they are not a model's own, since dummy weights write dummy words.
    """
    origin = record.provenance
    where = origin.hardware.get("summary", "unknown hardware")
    return f"{origin.source}: {where}" + ("" if origin.weights == "real" else f", {origin.weights}")


def predicted(predictions: Predictions, prediction: str) -> Any:
    """The value that the learner gave for id `prediction`, or None. Takes {"value": …} entries too."""
    entry = predictions.get(prediction)
    return entry.get("value") if isinstance(entry, Mapping) else entry


def prediction_marker(
    fig: go.Figure, x: Any, y: Any, *, text: str = "", name: str = "your prediction", **where: Any
) -> go.Figure:
    """Draw the learner's prediction as stars with a legend entry of their own; nothing if it is None.

    x and y are one value each or two equally long lists; x None draws a line across the whole plot at
    height y, y None (with x given) is no prediction. `where` goes to add_trace (row, col of a subplot).
    """
    if y is None or (isinstance(y, (list, tuple)) and all(value is None for value in y)):
        return fig
    if x is None:
        return fig.add_hline(
            y=y,
            line={"color": theme.INK, "width": 2, "dash": "8px,4px"},
            name=f"{name}: {text or format_value(y)}",
            showlegend=True,
            **where,
        )
    xs, ys = (list(v) if isinstance(v, (list, tuple)) else [v] for v in (x, y))
    star = {
        "symbol": "star",
        "size": 17,
        "color": theme.PREDICTION_FILL,
        "line": {"color": theme.INK, "width": 1.6},
    }
    trace = go.Scatter(
        x=xs,
        y=ys,
        name=f"{name}: {text}" if text else name,
        mode="markers",
        marker=star,
        showlegend=True,
        meta={"source": "prediction"},
        cliponaxis=False,
        hovertemplate=f"{name}: %{{y}}<extra></extra>",
    )
    return fig.add_trace(trace, **where)


def empty_figure(reason: str) -> go.Figure:
    """A figure that says why there is nothing to draw, in place of an empty plot."""
    fig = go.Figure(layout={"meta": {"empty": reason}, "height": 120})
    fig.update_xaxes(visible=False, range=[0, 1]).update_yaxes(visible=False, range=[0, 1])
    return fig.add_annotation(
        text=theme.wrap(reason, 56),
        x=0.5,
        y=0.5,
        xref="paper",
        yref="paper",
        showarrow=False,
        font={"size": 15},
    )


def empty_reason(fig: go.Figure) -> str | None:
    """The reason that an `empty_figure` gives; None for a figure that draws something."""
    meta = fig.layout.meta
    return meta.get("empty") if isinstance(meta, Mapping) else None


def mark_missing(fig: go.Figure, xs: Sequence[Any], y: float = 0, **where: Any) -> go.Figure:
    """Write "not measured" upright at each x, for bars, whose gaps do not explain themselves.

    `where` goes to add_annotation: `xshift` (pixels) moves it into the missing bar's place in a group.
    """
    for x in xs:
        fig.add_annotation(
            text=NOT_MEASURED,
            x=x,
            y=y,
            yanchor="bottom",
            textangle=-90,
            showarrow=False,
            font={"size": 12, "color": theme.MUTED},
            **where,
        )
    return fig


def format_value(value: Any, digits: int = 4) -> str:
    """A value as a table shows it: None is "not measured", a float has `digits` significant digits."""
    if value is None:
        return NOT_MEASURED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float) and math.isfinite(value):
        whole = abs(value) >= 10 ** (digits - 1)
        return f"{value:,.0f}" if whole else f"{value:.{digits}g}"
    return str(value)
