"""What the figures of the setup notebook share: stacked bars in a panel a run, sizes in bytes."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from labs.core.record import Record
from labs.report import figure, theme
from labs.report.figure import Control
from labs.report.week5.scaling_parts import first as first
from labs.report.week5.scaling_parts import number as number
from labs.report.week5.scaling_parts import own as own
from labs.report.week5.scaling_parts import pair as pair
from labs.report.week5.scaling_parts import panels as panels
from labs.report.week5.scaling_parts import recorded_names
from labs.report.week5.scaling_parts import scaled as scaled
from labs.report.week5.scaling_parts import who as who

Records = Sequence[Record]
NO_RUN = "No setup run yet: lab.measure('engines') makes one, and no recorded run is kept."
NO_WHOLE = "Only a run that also loads TP=1 knows the whole weights: add 1 to the TP sizes."
BESIDE = Control("Recorded run beside", recorded_names, kind="dropdown")
SPLITS = {
    "column": "cut by output (column parallel)",
    "row": "cut by input (row parallel)",
    "vocabulary": "cut by token id (vocabulary parallel)",
    "replicated": "replicated",
}
UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10), ("B", 1))


def unit_of(most: float) -> tuple[str, int]:
    """The unit in which the largest of some sizes reads well, and its bytes."""
    return next((unit for unit in UNITS if most >= unit[1]), UNITS[-1])


def nbytes(size: float | None, digits: int = 4) -> str:
    """`512 B`, `2.25 KiB`, `14.19 GiB`, or `not measured`."""
    if size is None:
        return figure.NOT_MEASURED
    unit, factor = unit_of(size)
    return f"{figure.format_value(float(size / factor), digits)} {unit}"


def percent(fraction: float | None, digits: int = 3) -> str:
    """`52.3 %`, or `not measured`."""
    return figure.format_value(scaled(fraction, 100), digits) + ("" if fraction is None else " %")


def largest_below(sizes: Sequence[int]) -> int | None:
    """The largest size above TP=1."""
    return max((tp for tp in sizes if tp > 1), default=None)


def stack(
    fig: go.Figure,
    record: Record,
    bars: Mapping[str, Mapping[str, float | None]],
    labels: Mapping[str, str],
    col: int,
    *,
    legend: bool,
) -> None:
    """Stacked bars in panel `col`: `bars` is bar -> part -> value, `labels` part -> name, from the ground up.

    Names carry the run's source; parts keep their colour and pattern from panel to panel, and only those of
    a panel with `legend` stand in the legend. A part without any value is left out.
    """
    for index, (part, label) in enumerate(labels.items()):
        values = [values.get(part) for values in bars.values()]
        if any(values):
            fig.add_bar(
                x=list(bars),
                y=values,
                name=f"{record.provenance.source}: {label}",
                width=0.55,
                showlegend=legend,
                row=1,
                col=col,
                **theme.bar_style(index, record.provenance.source),
            )


def above(fig: go.Figure, col: int, bar: str, y: float | None, text: str) -> None:
    """A number on a bar."""
    if y is not None:
        fig.add_annotation(x=bar, y=y, text=text, yanchor="bottom", yshift=4, showarrow=False, row=1, col=col)


def run_panels(shown: Records) -> go.Figure:
    """A panel a run, each with its own vertical axis, for stacked bars."""
    fig = panels([figure.source_label(record) for record in shown], shared=False)
    return fig.update_layout(barmode="stack").update_xaxes(type="category")


def cells(values: Mapping[str, Any], factor: float, unit: str) -> dict[str, Any]:
    """Columns of a table in one unit: {"weights": bytes} -> {"weights MiB": …}."""
    return {f"{name} {unit}": scaled(value, 1 / factor) for name, value in values.items()}
