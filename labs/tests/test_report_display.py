"""Figures in a notebook: one bundle a plot, replaced in place; controls redraw through the pure function."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from labs.core.errors import UserError
from labs.core.paths import ROOT
from labs.report import display, figure, widgets
from labs.report.display import PLOTLY_MIME, Shown
from labs.report.figure import Control
from labs.tests.report_toys import SPEC, own, record, recorded


class Handle:
    """Keeps what a display handle is told."""

    def __init__(self) -> None:
        self.bundles: list[dict[str, Any]] = []

    def update(self, bundle: dict[str, Any], raw: bool) -> None:
        assert raw
        self.bundles.append(bundle)


def test_plot_bundle_holds_the_plot_its_sentence_and_a_small_fallback() -> None:
    drawn = figure.render(SPEC, [own(), recorded()], {})
    bundle = display.plot_bundle(drawn)
    assert bundle[PLOTLY_MIME]["data"][0]["y"] == [61.0, 48.0, None]
    assert bundle["text/plain"] == f"Figure: {SPEC.title}. {drawn.sentence}"
    assert "aria-label" in bundle["text/html"]
    assert len(json.dumps(bundle)) < 40_000  # plotly.js itself would be millions


def test_a_figure_shown_twice_has_two_ids_and_a_huge_one_no_second_copy() -> None:
    drawn = figure.render(SPEC, [own()], {})
    assert display.plot_bundle(drawn)["text/html"] != display.plot_bundle(drawn)["text/html"]
    drawn.figure.add_scatter(x=list(range(60_000)), y=list(range(60_000)))
    assert "text/html" not in display.plot_bundle(drawn)


def test_update_replaces_the_plot_through_another_type_so_that_it_is_drawn_anew() -> None:
    plot, text = Handle(), Handle()
    drawn = figure.render(SPEC, [own()], {}, most=2)
    Shown(plot, text).update(drawn)
    assert [PLOTLY_MIME in bundle for bundle in plot.bundles] == [False, True]
    assert f"height:{drawn.figure.layout.height}px" in plot.bundles[0]["text/html"]
    assert "up to 2" in text.bundles[0]["text/html"]


def test_words_are_escaped_and_an_empty_figure_says_its_reason_once() -> None:
    drawn = figure.render(SPEC, [own().model_copy(update={"samples": own().samples})], {})
    assert "&lt;" not in display.words_html(drawn)
    evil = own().provenance.model_copy(update={"hardware": {"summary": "<script>"}})
    html = display.words_html(figure.render(SPEC, [own().model_copy(update={"provenance": evil})], {}))
    assert "<script>" not in html
    assert "measured: &lt;script&gt;" in html
    assert display.words_html(figure.render(SPEC, [record({})], {})) == ""


def test_outside_a_notebook_a_figure_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert display.show(figure.render(SPEC, [own()], {})) is None
    printed = capsys.readouterr().out
    assert SPEC.title in printed
    assert own().label() in printed
    assert "TP=2 writes 48 tokens/s" in printed
    assert "not measured" in printed


def test_explorer_redraws_and_refuses_what_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    explorer = widgets.explore(SPEC, [own(), recorded()], {}, most=2)
    assert explorer.rendered.figure.data[1].x == (1, 2)
    assert explorer.set("scale", "log").figure.layout.yaxis.type == "log"
    assert explorer.values == {"scale": "log", "most": 2}
    with pytest.raises(UserError, match="most=3 is not one of"):
        explorer.set("most", 3)
    assert explorer.values["most"] == 2
    assert SPEC.title in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ((1, 2, 4), "SelectionSlider"),
        (("a", "b"), "Dropdown"),
        ((False, True), "Checkbox"),
        ((0, 1), "SelectionSlider"),
    ],
)
def test_a_control_becomes_a_labelled_widget(options: tuple[Any, ...], kind: str) -> None:
    built = widgets.build(Control("How many", options), options, options[1])
    assert type(built).__name__ == kind
    assert built.description == "How many"
    assert built.value == options[1]


def test_a_slider_shows_units() -> None:
    built = widgets.build(Control("TP", (1, 2), unit="ranks"), (1, 2), 1)
    assert built.options == (("1 ranks", 1), ("2 ranks", 2))


NOTEBOOK = """
from labs.report import cards, widgets
from labs.tests.report_toys import SPEC, own, recorded
explorer = widgets.explore(SPEC, [own(), recorded()], {})
---
explorer.widgets["most"].value = 2
---
cards.note("a note", "its message")
"""


def test_in_a_kernel_a_widget_replaces_the_plot_in_its_own_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in NOTEBOOK.split("---")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(
        notebook, timeout=60, store_widget_state=False, resources={"metadata": {"path": tmp_path}}
    ).execute()
    controls, plot, words = notebook.cells[0].outputs
    assert "application/vnd.jupyter.widget-view+json" in controls.data
    assert plot.data[PLOTLY_MIME]["data"][1]["x"] == [1, 2]  # the second cell turned the control of the first
    assert "up to 2" in words.data["text/html"]
    assert notebook.cells[1].outputs == []
    assert notebook.cells[2].outputs[0].data["text/plain"] == "a note\nits message"
    assert len(nbformat.writes(notebook)) < 60_000  # no plotly.js in the file
