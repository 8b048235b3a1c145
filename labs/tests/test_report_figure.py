"""Figures: what is drawn, what is refused, and how a missing value shows."""

import json
import sys
import textwrap
import types
from typing import Any

import plotly.graph_objects as go
import pytest

from labs.core.errors import UserError
from labs.report import figure, theme
from labs.report.figure import Control, FigureSpec
from labs.tests.report_toys import SPEC, draw, own, record, recorded, sentence, table


def spec(draw_: Any, **controls: Control) -> FigureSpec:
    return FigureSpec("toy", "Toy", draw_, lambda *a, **k: "A sentence.", lambda *a, **k: [], controls)


def bare(name: str = "x", **trace: Any) -> Any:
    return lambda records, predictions: go.Figure().add_scatter(x=[1], y=[1], name=name, **trace)


def test_own_run_is_solid_and_recorded_one_dashed_each_with_its_source() -> None:
    drawn = figure.render(SPEC, [own(), recorded()], {})
    mine, theirs = drawn.figure.data
    assert (mine.line.dash, theirs.line.dash != "solid") == ("solid", True)
    assert mine.line.width > theirs.line.width
    assert mine.opacity > theirs.opacity
    assert mine.marker.symbol != theirs.marker.symbol
    assert mine.line.color != theirs.line.color
    assert mine.name == "measured: CPU, 2 cores, Toy, tiny"
    assert theirs.name == "recorded: 4x NVIDIA H200, dummy"
    assert drawn.labels == [own().label(), recorded().label()]
    assert "recorded on 4x NVIDIA H200" in drawn.figure.layout.title.subtitle.text
    assert figure.problems(drawn.figure) == []


def test_a_missing_value_is_a_gap_and_never_zero() -> None:
    drawn = figure.render(SPEC, [own()], {})
    assert drawn.figure.data[0].y == (61.0, 48.0, None)
    assert [row["throughput (tokens/s)"] for row in drawn.table] == [61.0, 48.0, None]
    assert json.loads(drawn.figure.to_json())["data"][0]["y"][2] is None


def test_a_mixture_without_sources_is_refused() -> None:
    both = [own(), recorded()]
    with pytest.raises(ValueError, match=r"mixes measured and recorded.*source_label"):
        figure.render(spec(bare()), both)
    with pytest.raises(ValueError, match="mixes measured and recorded"):
        figure.render(spec(bare(name="TP=2", meta={"source": "recorded"})), both)
    with pytest.raises(ValueError, match="mixes measured and recorded"):
        figure.render(spec(bare(name="recorded: TP=2")), both)
    assert figure.render(spec(bare()), [own()]).figure.data[0].name == "x"
    assert figure.render(spec(bare(name="ideal", **theme.series_style(0, "reference"))), both).figure.data


def test_missing_rows_say_what_to_do_in_place_of_an_empty_plot() -> None:
    drawn = figure.render(SPEC, [record({})], {"W5.N9.P1": 100})
    assert drawn.empty
    assert drawn.table == []
    assert not drawn.figure.data
    assert drawn.sentence == "No scaling run yet: lab.measure('scaling') makes one."
    assert figure.render(SPEC, [], {}).sentence.startswith("No run yet")


@pytest.mark.parametrize("predictions", [{}, {"W5.N9.P1": None}, {"W5.N9.P1": {"value": None}}])
def test_no_prediction_draws_nothing(predictions: dict[str, Any]) -> None:
    assert len(figure.render(SPEC, [own()], predictions).figure.data) == 1


@pytest.mark.parametrize("predictions", [{"W5.N9.P1": 90}, {"W5.N9.P1": {"value": 90, "unit": "tokens/s"}}])
def test_a_prediction_has_a_mark_and_a_legend_entry_of_its_own(predictions: dict[str, Any]) -> None:
    star = figure.render(SPEC, [own(), recorded()], predictions).figure.data[-1]
    assert (star.x, star.y, star.marker.symbol, star.showlegend) == ((2,), (90,), "star", True)
    assert star.name == "your prediction"


def test_a_prediction_for_every_x_is_a_line_with_a_legend_entry() -> None:
    fig = figure.prediction_marker(go.Figure().add_scatter(x=[1, 2], y=[1, 2], name="x"), None, 1.25)
    theme.finish(fig, "T")
    assert (fig.layout.shapes[0].y0, fig.layout.shapes[0].name) == (1.25, "your prediction: 1.25")
    assert fig.layout.showlegend is True


def test_controls_are_checked_and_default() -> None:
    assert figure.render(SPEC, [own()], {}, scale="log").figure.layout.yaxis.type == "log"
    assert figure.settings(SPEC, [own()], {}) == {"scale": "linear", "most": 4}
    with pytest.raises(UserError, match="no control 'sclae'; its controls: scale, most"):
        figure.render(SPEC, [own()], {}, sclae="log")
    with pytest.raises(UserError, match="most=3 is not one of 1, 2, 4"):
        figure.render(SPEC, [own()], {}, most=3)


def test_control_options_may_come_from_the_records() -> None:
    tp = Control(
        "TP", lambda records: sorted({row["tp"] for r in records for row in r.rows("step")}), default=2
    )
    assert (tp.choices([own(), recorded()]), tp.start([own()]), tp.start([])) == ([1, 2, 4], 2, 2)
    assert Control("TP", (1, 2), unit="ranks").text(2) == "2 ranks"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "not measured"),
        (0, "0"),
        (0.0, "0"),
        (True, "yes"),
        (12345, "12,345"),
        (17550.4, "17,550"),
        (0.000123456, "0.0001235"),
        (48.25, "48.25"),
        ("text", "text"),
    ],
)
def test_format_value(value: Any, shown: str) -> None:
    assert figure.format_value(value) == shown


def test_find_names_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("labs.report.week5.toy")
    module.FIGURES = figure.registry(SPEC)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "labs.report.week5.toy", module)
    assert figure.find("week5/99_toy", "throughput") is SPEC
    with pytest.raises(UserError, match="week5/99_toy has no figure 'x'; it has throughput"):
        figure.find("week5/99_toy", "x")
    with pytest.raises(UserError, match="no figures for notebook 'week5/98_none'"):
        figure.find("week5/98_none", "x")
    with pytest.raises(ValueError, match="share a name"):
        figure.registry(SPEC, SPEC)


def test_problems_finds_what_keeps_a_figure_from_being_read() -> None:
    fig = go.Figure().add_scatter(x=[1, 3], y=[1, None], connectgaps=True)
    found = " ".join(figure.problems(fig))
    assert "trace 0 has no name" in found
    assert "bridges gaps" in found
    assert "xaxis has no title" in found
    assert figure.problems(go.Figure().update_xaxes(title="x").update_yaxes(title="y")) != []


def test_legend_grows_the_figure_and_never_takes_the_plots_room() -> None:
    few, many = (
        theme.finish(go.Figure([go.Scatter(y=[1], name=f"series {i}") for i in range(n)]), "T")
        for n in (2, 9)
    )
    for fig in (few, many):
        room = fig.layout.height - fig.layout.margin.t - fig.layout.margin.b
        assert room == theme.PLOT_HEIGHT - 58
    assert many.layout.height > few.layout.height
    assert theme.finish(go.Figure(go.Scatter(y=[1], name="one")), "T").layout.showlegend is False


def test_text_from_records_is_not_markup() -> None:
    fig = theme.finish(go.Figure(), "a <b>", ["measured on <script>"])
    assert (fig.layout.title.text, "<script>" in fig.layout.title.subtitle.text) == ("a &lt;b&gt;", False)


def test_the_example_in_the_docstring_works() -> None:
    text = figure.__doc__ or ""
    example = text[text.index("    import statistics") : text.index("`draw` never styles")]
    space: dict[str, Any] = {}
    exec(textwrap.dedent(example), space)
    shown = space["FIGURES"]["throughput"]
    drawn = figure.render(shown, [own(), recorded()], {"W5.N3.P1": 1.7}, scale="log")
    assert figure.problems(drawn.figure) == []
    assert len(drawn.table) == 6
    assert drawn.sentence == "TP=2 writes 48 tokens/s, TP=1 61."
    assert figure.render(shown, [record({})]).empty


def test_toys_keep_the_signature() -> None:
    assert draw([own()], {}, "log", 2).data[0].x == (1, 2)
    assert sentence([own()], {}, most=1).endswith("up to 1).")
    assert len(table([own()], {})) == 3
