"""Showing a rendered figure in a notebook, in place and without bloat.

A figure is two outputs: the plot as a raw MIME bundle (plotly's own JSON, which JupyterLab draws; a small
HTML that loads plotly.js, for viewers that know no plotly, such as a page made by nbconvert; the sentence as
its text alternative) and, under it, sentence and table as HTML. `Shown.update` replaces both in place:
updating the handle with the Figure itself would append a copy each time (plotly 7.1, `_ipython_display_`).
A raw bundle of the same type would leave the old plot standing, because plotly's JupyterLab renderer draws
once (7.1, `renderModel` returns if there is a graph); a blank card of its height in between makes a new one.
"""

import itertools
import json
import sys
from typing import Any

import plotly.io as pio

from labs.report import theme
from labs.report.card import Card
from labs.report.figure import Rendered
from labs.report.markup import esc, folded_table, styled, text_table

PLOTLY_MIME = "application/vnd.plotly.v1+json"
CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}
_FALLBACK_BYTES = 200_000  # a bigger figure is not written a second time
_numbers = itertools.count(1)  # a figure that is shown twice needs two ids on one page


class Shown:
    """A figure that stands in a notebook and can be replaced where it stands."""

    def __init__(self, plot: Any, text: Any) -> None:
        self._plot, self._text = plot, text

    def update(self, rendered: Rendered) -> None:
        """Show `rendered` in place of what stood there."""
        plot, text = plot_bundle(rendered), text_bundle(rendered)  # first, so that the blank is brief
        blank = f'<div style="height:{rendered.figure.layout.height}px;background:{theme.CARD}"></div>'
        self._plot.update({"text/html": blank, "text/plain": ""}, raw=True)
        self._plot.update(plot, raw=True)
        self._text.update(text, raw=True)


def show(rendered: Rendered) -> Shown | None:
    """Display plot, sentence and table; outside a notebook print the text and return None."""
    if not in_notebook():
        print(as_text(rendered))
        return None
    from IPython.display import display

    plot = display(plot_bundle(rendered), raw=True, display_id=True)
    return Shown(plot, display(text_bundle(rendered), raw=True, display_id=True))


def show_card(card: Card) -> None:
    """Display a card; outside a notebook print its text."""
    if not in_notebook():
        print(card.text)
        return
    from IPython.display import display

    display(card)


def in_notebook() -> bool:
    """True inside a Jupyter kernel (not in plain Python and not in a terminal's IPython)."""
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    return hasattr(get_ipython(), "kernel")


def plot_bundle(rendered: Rendered) -> dict[str, Any]:
    """The plot by MIME type, with the sentence as its text alternative."""
    text = rendered.figure.to_json()
    bundle: dict[str, Any] = {
        PLOTLY_MIME: {**json.loads(text), "config": CONFIG},
        "text/plain": f"Figure: {rendered.title}. {rendered.sentence}",
    }
    if len(text) < _FALLBACK_BYTES:
        bundle["text/html"] = plot_div(rendered, f"labs-{rendered.name}-{next(_numbers)}", plotlyjs="cdn")
    return bundle


def text_bundle(rendered: Rendered) -> dict[str, str]:
    """Sentence and table by MIME type."""
    return {
        "text/html": styled(f'<div class="labs">{words_html(rendered)}</div>'),
        "text/plain": text_table(rendered.table) or rendered.sentence,
    }


def words_html(rendered: Rendered) -> str:
    """What stands beside a plot: the sentence, and the same numbers as a table."""
    sentence = "" if rendered.empty else f"<p>{esc(rendered.sentence)}</p>"
    return sentence + folded_table(rendered.table, rendered.title)


def plot_div(rendered: Rendered, div_id: str, plotlyjs: str | bool = False) -> str:
    """The plot as HTML, labelled for screen readers; `plotlyjs` as in plotly's `to_html` (False: none)."""
    plot = pio.to_html(
        rendered.figure, config=CONFIG, include_plotlyjs=plotlyjs, full_html=False, div_id=div_id
    )
    label = esc(f"{rendered.title}. {rendered.sentence}")
    return f'<div role="img" aria-label="{label}">{plot}</div>'


def figure_html(rendered: Rendered, div_id: str) -> str:
    """A whole figure for a page that has plotly.js and the style sheet: plot, sentence, table."""
    return (
        f'<figure class="labs">{plot_div(rendered, div_id)}'
        f"<figcaption>{words_html(rendered)}</figcaption></figure>"
    )


def as_text(rendered: Rendered) -> str:
    """The figure in words: title, where the numbers come from, sentence, table."""
    parts = [rendered.title, *rendered.labels, rendered.sentence, text_table(rendered.table)]
    return "\n".join(part for part in parts if part)
