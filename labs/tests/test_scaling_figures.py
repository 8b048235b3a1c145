"""The figures of notebook 03 on toy Records: own, recorded, both, rows missing, predictions given or not."""

from collections.abc import Sequence
from typing import Any

import pytest

from labs.core.errors import UserError
from labs.core.record import Record
from labs.report import figure
from labs.report.figure import NOT_MEASURED
from labs.report.week5 import scaling_parts as parts
from labs.report.week5.scaling_benchmark import FIGURES
from labs.tests import scaling_toys as toys

OWN, OLD = toys.own(), toys.recorded()
SETS: dict[str, list[Record]] = {
    "own": [OWN],
    "recorded": [OLD],
    "both": [OWN, OLD],
    "two recorded": [OWN, OLD, toys.recorded()],
    "own at TP=1 alone": [toys.own((1,)), OLD],
    "own without TP=1": [toys.own((2,)), OLD],
}
GUESSES = {
    "W5.N3.P1": {"value": 0.7},
    "W5.N3.P2": {"value": "medium"},
    "W5.N3.P3": {"value": 30},
    "W5.N3.P4": {"value": 3},
}


def render(name: str, records: Sequence[Record], predictions: Any = None, **controls: Any) -> figure.Rendered:
    return figure.render(FIGURES[name], records, predictions, **controls)


def stars(fig: Any) -> list[Any]:
    return [t for t in fig.data if isinstance(t.meta, dict) and t.meta["source"] == "prediction"]


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("records", SETS)
@pytest.mark.parametrize("predictions", [{}, GUESSES])
def test_every_figure_renders(name: str, records: str, predictions: Any) -> None:
    spec = FIGURES[name]
    choices = {key: control.choices(SETS[records]) for key, control in spec.controls.items()}
    variants: list[dict[str, Any]] = [{}]
    variants += [{key: options[-1]} for key, options in choices.items() if options]
    for controls in variants:
        shown = figure.render(spec, SETS[records], predictions, **controls)
        assert shown.sentence
        assert figure.problems(shown.figure) == []
        assert shown.empty or shown.table
        assert "None" not in shown.sentence + "".join(str(trace.name) for trace in shown.figure.data)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("kind", ["generate", "all_reduce", "collectives", "bandwidth", "load"])
def test_every_figure_renders_without_rows_of_a_kind(name: str, kind: str) -> None:
    for records in ([toys.without(OWN, kind)], [toys.without(OWN, kind), OLD]):
        shown = render(name, records, GUESSES)
        assert shown.sentence
        assert figure.problems(shown.figure) == []


@pytest.mark.parametrize("name", FIGURES)
def test_no_run_says_so(name: str) -> None:
    assert render(name, []).empty
    assert render(name, [toys.record([])]).empty


def test_scaling_draws_ideal_claim_and_prediction() -> None:
    shown = render("scaling", SETS["both"], GUESSES)
    by_name = {trace.name: trace for trace in reversed(shown.figure.data)}  # the first panel's
    assert list(by_name[parts.CLAIM].y) == pytest.approx([1, 800 / 450, 1400 / 450])
    assert by_name[parts.CLAIM].meta["source"] == "reference"
    assert list(by_name["ideal"].y) == [1, 2, 3, 4]
    (star,) = stars(shown.figure)
    assert (list(star.x), list(star.y)) == ([2], [0.7])
    assert any("medium ★" in note.text for note in shown.figure.layout.annotations)
    assert shown.sentence.startswith("Your run, TP=2")
    assert "saturated 0.80×" in shown.sentence


def test_scaling_in_other_units() -> None:
    percent = render("scaling", SETS["both"], GUESSES, quantity="efficiency").figure
    assert list(percent.data[0].y) == pytest.approx([100, 40])
    assert list(stars(percent)[0].y) == pytest.approx([35])
    tokens = render("scaling", SETS["both"], GUESSES, quantity="throughput").figure
    assert list(tokens.data[0].y) == pytest.approx([3000, 2400])
    assert list(stars(tokens)[0].y) == pytest.approx([2100])
    with pytest.raises(UserError, match="not one of"):
        render("scaling", SETS["both"], quantity="latency")


def test_overlapping_repeats_are_called_so() -> None:
    rows = [
        toys.generate(tp, "saturated", i, seconds, 100)
        for tp in (1, 2)
        for i, seconds in enumerate((1.0, 1.1, 1.2))
    ]
    assert "saturated the repeats overlap those of TP=1" in render("scaling", [toys.record(rows)]).sentence
    assert "overlap" not in render("scaling", [OWN]).sentence


def test_a_text_for_a_number_is_no_star() -> None:
    assert not stars(render("scaling", SETS["own"], {"W5.N3.P1": {"value": "fast"}}).figure)


def test_a_prediction_of_the_step_stands_in_the_own_panel() -> None:
    (star,) = stars(render("step", SETS["both"], GUESSES).figure)
    assert list(star.y) == pytest.approx([0.3 * 6.0])
    (star,) = stars(render("floor", SETS["both"], GUESSES).figure)
    assert list(star.y) == pytest.approx([3 * 0.8])
    assert not stars(render("floor", SETS["recorded"], GUESSES).figure)
    assert not stars(render("step", [toys.own((1,))], GUESSES).figure)


def test_the_bars_of_a_step_add_up_to_it() -> None:
    bars = [t for t in render("step", SETS["recorded"]).figure.data if t.type == "bar"]
    total = [sum(bar.y[i] or 0 for bar in bars) for i in range(3)]
    assert total == pytest.approx([4.775, 3.208, 2.523])


def test_a_step_below_the_floor_draws_no_negative_bar() -> None:
    rows = [*toys.loads(1, toys.OWN[1]), *toys.ranks(1, 80e6, 10e9, 512, 9)]  # a floor of 8 ms above 4 ms
    shown = render("floor", [toys.record(rows)])
    assert all(y is None or y >= 0 for bar in shown.figure.data for y in bar.y)
    assert "0.5 times the floor" in shown.sentence


def test_what_was_not_measured_is_said() -> None:
    shown = render("floor", [toys.without(OWN, "bandwidth")])
    assert "floor not measured" in shown.figure.data[0].name
    assert shown.table[0]["step/floor"] is None
    shown = render("step", [toys.without(OWN, "all_reduce")])
    assert any("all-reduce not measured" in trace.name for trace in shown.figure.data)
    assert NOT_MEASURED in render("cost", [OWN, OLD], tp=4).figure.layout.annotations[0].text


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("load", ["saturated", "single", "single_1"])
def test_a_load_that_is_missing_at_one_size_is_a_gap(name: str, load: str) -> None:
    rows = [row for row in OWN.samples if (row.get("load"), row["tp"]) != (load, 1)]
    for records in ([toys.record(rows)], [toys.record(rows), OLD]):
        shown = render(name, records, GUESSES)
        assert shown.sentence
        assert figure.problems(shown.figure) == []


def test_the_line_follows_alpha_and_bandwidth() -> None:
    fits = render("messages", [OLD], tp=4, alpha_us=2, gb_per_s=20)
    assert "at most a factor of 1," in fits.sentence
    line = fits.figure.data[-1]
    assert line.y[0] == pytest.approx(12 + 1.5 * 7168 / 20e3)
    assert render("messages", [OLD], tp=4, alpha_us=200, gb_per_s=20).figure.data[-1].y[0] > 1200


def test_the_cost_of_a_token_is_n_over_s() -> None:
    shown = render("cost", SETS["both"], tp=4, load="saturated")
    assert [row["cost of a token, TP=1 is 1"] for row in shown.table] == [
        None,
        pytest.approx(4 * 8087 / 20716),
        pytest.approx(4 * 450 / 1400),
    ]
    assert shown.sentence.startswith("The recorded run")


def test_a_recorded_run_is_chosen_by_name() -> None:
    names = parts.recorded_names(SETS["two recorded"])
    assert len(set(names)) == 2
    assert parts.pair(SETS["two recorded"], names[1])[1] is SETS["two recorded"][2]
    assert parts.pair([OWN], None) == [OWN]
