"""One look for every figure: colours, dashes, symbols, type, units, and where title and legend go.

Series are told apart twice, by colour (Okabe and Ito's palette, safe for colour-blind readers) and by marker
symbol. The source of a number is told apart by line and fill: measured here is solid and filled, recorded
elsewhere is dashed, open and lighter. Figures sit on a white card of their own, so they read the same in
light and dark JupyterLab, in the report and on paper.

A figure's author only adds traces and axis titles; `figure.render` calls `finish` for the rest.
Palette: Okabe and Ito, "Color Universal Design" (2008).
"""

import html
import math
import textwrap
from collections.abc import Sequence
from typing import Any, Literal

import plotly.graph_objects as go
import plotly.io as pio

Source = Literal["measured", "recorded", "prediction", "reference"]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # yellow is the prediction's
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")
DASHES = ("dash", "dot", "dashdot", "longdash", "longdashdot", "5px,2px,1px,2px")  # of recorded series
PATTERNS = ("", "/", ".", "x", "-", "\\")
INK, MUTED, GRID, CARD = "#1f2933", "#5a6672", "#e3e8ed", "#ffffff"
PREDICTION_FILL = "#F0E442"
FONT = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'Liberation Sans', Helvetica, Arial, sans-serif"
PLOT_HEIGHT = 330  # pixels of the drawing area and its x axis; title and legend come on top of it

_LINE_PX, _LEGEND_ROW_PX = 17, 22
_SUBTITLE_CHARS, _TWO_COLUMN_CHARS, _LEGEND_CHARS = 84, 24, 80


def _template() -> go.layout.Template:
    axis = {
        "gridcolor": GRID,
        "linecolor": MUTED,
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": MUTED,
        "showline": True,
        "automargin": True,
        "title": {"standoff": 10, "font": {"size": 14}},
        "tickfont": {"size": 13},
    }
    layout = go.Layout(
        colorway=COLORS,
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor=CARD,
        plot_bgcolor=CARD,
        xaxis=axis,
        yaxis={**axis, "rangemode": "tozero"},
        title={"font": {"size": 17}, "x": 0.012, "xanchor": "left"},
        hoverlabel={"font": {"family": FONT, "size": 13}},
        bargap=0.25,
        bargroupgap=0.06,
    )
    return go.layout.Template(layout=layout)


pio.templates["labs"] = _template()


def axis_title(quantity: str, unit: str = "") -> str:
    """`Throughput (tokens/s)`; a quantity without a unit, such as speed-up, says so with `×` or nothing."""
    return f"{quantity} ({unit})" if unit else quantity


def series_style(index: int, source: Source = "measured", mode: str = "lines+markers") -> dict[str, Any]:
    """Keyword arguments of `add_scatter` for series `index` of a source (`record.provenance.source`).

    The same index always has the same colour and symbol; measured is solid and filled, recorded dashed, open
    and lighter, reference (a formula, an ideal, a published number) thin, grey and dotted.
    """
    i = index % len(COLORS)
    if source == "reference":
        return {
            "mode": "lines" if "lines" in mode else mode,
            "line": {"color": MUTED, "width": 1.5, "dash": ("dot", "dashdot", "longdash")[index % 3]},
            "marker": {"color": MUTED, "size": 9, "symbol": "line-ew-open", "line": {"width": 2}},
            "meta": {"source": source},
        }
    own = source == "measured"
    style: dict[str, Any] = {
        "mode": mode,
        "marker": {
            "color": COLORS[i],
            "size": 10 if own else 9,
            "symbol": SYMBOLS[i] if own else f"{SYMBOLS[i]}-open",
            "line": {"width": 1 if own else 2, "color": CARD if own else COLORS[i]},
        },
        "opacity": 1.0 if own else 0.72,
        "cliponaxis": False,  # a marker at zero stays whole
        "meta": {"source": source},
    }
    if "lines" in mode:
        style["line"] = {
            "color": COLORS[i],
            "width": 3 if own else 2,
            "dash": "solid" if own else DASHES[i],
        }
    return style


def bar_style(index: int, source: Source = "measured") -> dict[str, Any]:
    """Keyword arguments of `add_bar`: filled if measured, pale if recorded; the index sets the pattern."""
    i = index % len(COLORS)
    own = source == "measured"
    color = MUTED if source == "reference" else COLORS[i]
    return {
        "marker": {
            "color": color if own else tint(color, 0.28),
            "line": {"color": color, "width": 1 if own else 1.5},
            "pattern": {
                "shape": PATTERNS[i],
                "fgcolor": CARD if own else color,
                "fillmode": "overlay",
                "size": 7,
                "solidity": 0.25,
            },
        },
        "meta": {"source": source},
    }


def tint(color: str, strength: float) -> str:
    """Mix a #rrggbb colour with white: strength 1 is the colour, 0 is white."""
    channels = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 + (c - 255) * strength):02x}" for c in channels)


def wrap(text: str, width: int) -> str:
    """Break plain text into lines of at most `width` characters, joined by plotly's `<br>`."""
    return "<br>".join(textwrap.wrap(text, width, break_long_words=False)) or text


def finish(fig: go.Figure, title: str, labels: Sequence[str] = (), height: int | None = None) -> go.Figure:
    """Give `fig` the template, title, provenance subtitle, legend and height; returns the same figure.

    The legend stands under the x axis in rows whose number is known beforehand, and the height grows with it,
    so that it overlaps neither plot nor title at any width from about 480 px. `height` is that of the plot
    alone, in pixels (default: `PLOT_HEIGHT`, or the layout's own height if the author set one).
    """
    plot_height = height or fig.layout.height or PLOT_HEIGHT
    subtitle = "<br>".join(wrap(html.escape(label, quote=False), _SUBTITLE_CHARS) for label in labels)
    subtitle_lines = subtitle.count("<br>") + 1 if subtitle else 0
    top = 48 + _LINE_PX * subtitle_lines
    legend, legend_px = _legend(fig)
    fig.update_layout(
        template="labs",
        title={
            "text": html.escape(title, quote=False),
            "yref": "container",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 14},
            "subtitle": {"text": subtitle, "font": {"size": 12, "color": MUTED}},
        },
        margin={"l": 72, "r": 28, "t": top, "b": 58 + legend_px},
        height=plot_height + top + legend_px,
        autosize=True,
        width=None,
        **legend,
    )
    return fig


def _legend(fig: go.Figure) -> tuple[dict[str, Any], int]:
    """(layout arguments, pixels to keep free under the x axis) for the legend that the figure needs."""
    names = _entries(fig)
    if len(names) < 2 and not any(
        getattr(item, "showlegend", None) for item in (*fig.data, *fig.layout.shapes)
    ):
        return {"showlegend": False}, 0
    for item in (*fig.data, *fig.layout.shapes):
        if item.name and "<br>" not in item.name:
            item.name = wrap(item.name, _LEGEND_CHARS)
    columns = 2 if all(len(name) <= _TWO_COLUMN_CHARS for name in names) else 1
    lines = sum(name.count("<br>") for name in (wrap(n, _LEGEND_CHARS) for n in names))
    pixels = _LEGEND_ROW_PX * math.ceil(len(names) / columns) + _LINE_PX * lines + 10
    legend = {
        "orientation": "h",
        "entrywidthmode": "fraction",
        "entrywidth": 0.98 / columns,
        "xref": "container",
        "x": 0.06,
        "xanchor": "left",
        "yref": "container",
        "y": 0.008,
        "yanchor": "bottom",
        "font": {"size": 13},
        "traceorder": "normal",
        "title": {"text": ""},
    }
    return {"showlegend": True, "legend": legend}, pixels


def _entries(fig: go.Figure) -> list[str]:
    """Names that the legend will list, one a legend entry."""
    traces = [t.name or "trace" for t in fig.data if t.showlegend is not False and t.visible in (None, True)]
    return traces + [shape.name or "shape" for shape in fig.layout.shapes if shape.showlegend]
