"""What the figures of the scaling benchmark share: panels, names of runs, and ranges."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from labs.analysis.week5 import scaling_benchmark as numbers
from labs.core.record import Record
from labs.report import figure, theme

NO_RUN = "No scaling run yet: lab.measure('scaling') makes one, and no recorded run is kept."
LOADS = {"saturated": "saturated", "medium": "medium", "single": "single stream"}
CLAIM = "claim of the source document, load not stated"
PANEL_TOP = 0.87  # of the plot; the panels' titles stand above it


def who(record: Record) -> str:
    """How a sentence names a run."""
    if record.provenance.source == "measured":
        return "Your run"
    return f"The recorded run on {record.provenance.hardware.get('summary', 'unknown hardware')}"


def first(records: Sequence[Record], has: Callable[[Record], Any]) -> Record | None:
    """The first Record that has what a sentence speaks of: the learner's own if it can be."""
    return next((record for record in records if has(record)), None)


def own(records: Sequence[Record]) -> Record | None:
    """The learner's own Record, which predictions speak of."""
    return first(records, lambda record: record.provenance.source == "measured")


def number(predictions: figure.Predictions, name: str) -> float | None:
    """A prediction as a number; None if there is none or it is text."""
    value = figure.predicted(predictions, name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def recorded_names(records: Sequence[Record]) -> list[str]:
    """One name for each recorded run, told apart by a number where two are alike."""
    names: list[str] = []
    for record in records:
        if record.provenance.source == "recorded":
            name = figure.source_label(record).removeprefix("recorded: ")
            names.append(name if name not in names else f"{name} ({len(names) + 1})")
    return names


def pair(records: Sequence[Record], beside: str | None) -> list[Record]:
    """The learner's own Record and the recorded run named `beside` (one of `recorded_names`)."""
    kept = [record for record in records if record.provenance.source == "recorded"]
    chosen = [record for name, record in zip(recorded_names(records), kept, strict=True) if name == beside]
    return [record for record in records if record.provenance.source == "measured"] + chosen


def panels(titles: Sequence[str], *, shared: bool) -> go.Figure:
    """Panels side by side, each under its title; `shared` gives them one vertical axis."""
    fig = make_subplots(
        rows=1,
        cols=len(titles),
        shared_yaxes=shared,
        horizontal_spacing=0.04 if shared else 0.14,
        subplot_titles=[theme.wrap(title, 80 // len(titles)) for title in titles],
    )
    fig.update_yaxes(domain=[0, PANEL_TOP])
    fig.update_annotations(y=PANEL_TOP + 0.02, yanchor="bottom", font={"size": 13})
    return fig


def spread(rows: Sequence[Mapping[str, Any]], middle: str, low: str, high: str, scale: float = 1) -> dict:
    """`error_y` from columns of a table: from the least to the greatest value around the middle one."""
    above = [(row[high] - row[middle]) * scale if row[middle] is not None else 0 for row in rows]
    below = [(row[middle] - row[low]) * scale if row[middle] is not None else 0 for row in rows]
    shape = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 5}
    return {**shape, "array": above, "arrayminus": below}


def span(low: float | None, high: float | None, digits: int = 3) -> str:
    """`0.81 to 0.86`, for a table or a sentence."""
    if low is None or high is None:
        return figure.NOT_MEASURED
    return f"{figure.format_value(low, digits)} to {figure.format_value(high, digits)}"


def nbytes(size: float) -> str:
    """`512 B`, `8 KiB`, `1.75 MiB`."""
    for unit, factor in (("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} B"


def scaled(value: float | None, scale: float) -> float | None:
    """A value in another unit; what was not measured stays None."""
    return None if value is None else value * scale


def sizes(records: Sequence[Record]) -> list[int]:
    """Every TP size of any of these runs."""
    return sorted({tp for record in records for tp in numbers.tp_sizes(record)})


def beyond_one(record: Record, load: str = "saturated") -> list[dict[str, Any]]:
    """The rows of `numbers.scaling` for more than one rank."""
    return [row for row in numbers.scaling(record, load) if row["tp"] > 1]


def x_range(ticks: Sequence[int]) -> list[float]:
    """The horizontal axis, wide enough for the claim's sizes too."""
    return [0.6, max([*ticks, *numbers.CLAIM]) + 0.4]


def add_claim(fig: go.Figure, column: str, scale: float, col: int) -> None:
    """The source document's row in panel `col`, from a column of `numbers.claim`."""
    rows = [row for row in numbers.claim() if row[column] is not None]
    style = theme.series_style(1, "reference", "lines+markers")
    fig.add_scatter(
        x=[row["tp"] for row in rows],
        y=[scaled(row[column], scale) for row in rows],
        name=CLAIM,
        legendgroup="claim",
        showlegend=col == 1,
        row=1,
        col=col,
        **{**style, "mode": "lines+markers"},
    )
