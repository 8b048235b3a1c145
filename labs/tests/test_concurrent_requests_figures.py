"""Every figure of the concurrency notebook, with everything there and with parts of it missing."""

from typing import Any

import pytest

from labs.core.errors import UserError
from labs.core.record import Record
from labs.report import figure
from labs.tests import concurrent_toys as toys

FIGURES = figure.all_of(toys.STEM)
PREDICTIONS = {f"W5.N2.P{i}": {"value": value} for i, value in enumerate((4, 10, 20, 1.0, 0.8), 1)}
SETS = {
    "own": [toys.own()],
    "recorded": [toys.recorded()],
    "both": [toys.own(), toys.recorded()],
    "two recorded": [toys.own(), toys.recorded(), toys.recorded("2x NVIDIA H200")],
    "own without offline": [toys.without(toys.own(), kind="offline"), toys.recorded()],
    "own without alone": [toys.without_mode(toys.own(), "alone")],
    "own without the open loop": [toys.without_mode(toys.own(), "open"), toys.recorded()],
    "own without the closed loop": [toys.without_mode(toys.own(), "closed"), toys.recorded()],
    "own with a failed run": [toys.failing(toys.failing(toys.own(), "concurrency=2"), "rate=1.5")],
}


def drawn(name: str, records: list[Record], predictions: Any = None, **controls: Any) -> figure.Rendered:
    found = figure.render(FIGURES[name], records, predictions, **controls)
    assert figure.problems(found.figure) == []
    assert found.sentence.endswith((".", "it."))
    assert "None" not in found.sentence
    assert "nan" not in found.sentence
    return found


@pytest.mark.parametrize("records", SETS.values(), ids=SETS)
@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("predictions", [PREDICTIONS, {}], ids=["predicted", "not predicted"])
def test_every_figure_renders(name: str, records: list[Record], predictions: Any) -> None:
    found = drawn(name, records, predictions)
    if not found.empty:
        assert found.table
        assert figure.columns(found.table)[0] == "source"


@pytest.mark.parametrize("name", FIGURES)
def test_every_option_of_every_control_renders(name: str) -> None:
    both = SETS["both"]
    for control, spec in FIGURES[name].controls.items():
        for choice in spec.choices(both):
            assert not drawn(name, both, PREDICTIONS, **{control: choice}).empty


@pytest.mark.parametrize("name", FIGURES)
def test_without_rows_a_figure_says_so(name: str) -> None:
    found = figure.render(FIGURES[name], [toys.record([])])
    assert found.empty
    assert "No " in found.sentence


@pytest.mark.parametrize("name", ["sweep", "goodput", "fairness", "batch"])
def test_predictions_are_stars(name: str) -> None:
    stars = [t for t in drawn(name, SETS["own"], PREDICTIONS).figure.data if t.meta["source"] == "prediction"]
    assert len(stars) == (2 if name == "sweep" else 1)
    heights = {"sweep": 550, "goodput": 2000, "fairness": 3.5, "batch": 0.8}
    assert stars[0].y[0] == pytest.approx(heights[name])


def test_the_sweep_names_its_knee_in_words_and_marks_it() -> None:
    found = drawn("sweep", SETS["both"])
    assert "requests/s divided by median E2E" in found.sentence
    assert "at 4 clients" in found.sentence
    assert sum(note.text == "knee" for note in found.figure.layout.annotations) == 4  # two runs, two panels


def test_a_percentile_that_n_cannot_carry_is_not_offered_or_not_measured() -> None:
    few = [toys.record([row for row in toys.server_rows() if row.get("run") != "concurrency=8"])]
    with pytest.raises(UserError, match="99"):
        figure.render(FIGURES["sweep"], few, p=99)
    values = [row["TTFT p99 ms"] for row in drawn("sweep", SETS["own"], p=99).table]
    assert values[:3] == [None, None, None]  # 20, 20 and 40 requests
    assert values[3] == pytest.approx(600)


@pytest.mark.parametrize("name", FIGURES)
def test_the_clients_own_lateness_stands_beside_every_latency(name: str) -> None:
    found = drawn(name, SETS["own"])
    assert "The client itself" in found.sentence
    if name in ("sweep", "curve", "goodput", "fairness"):
        assert {"client late p99 ms", "client late max ms", "samples of lateness"} <= set(found.table[0])


def test_tighter_limits_lower_the_goodput_and_a_later_clock_hides_the_lag() -> None:
    def last(**controls: Any) -> dict[str, Any]:
        return drawn("goodput", SETS["own"], **controls).table[-1]

    assert last(ttft_ms=100)["goodput requests/s"] < last(ttft_ms=1000)["goodput requests/s"]
    assert last(clock="actual")["TTFT median ms"] == pytest.approx(last()["TTFT median ms"] - 4)
    assert "clock from the actual send" in drawn("goodput", SETS["own"], clock="actual").sentence


def test_the_timeline_has_a_bar_a_request_and_can_show_each_run() -> None:
    both = SETS["both"]
    options = FIGURES["timeline"].controls["source"].choices(both)
    assert options == [figure.source_label(one) for one in both]
    wait, burst, polite = drawn("timeline", both, source=options[1]).figure.data
    assert "recorded" in wait.name
    assert (len(wait.y), len(burst.y), len(polite.y)) == (8, 6, 2)
    assert wait.base[0] + wait.x[0] == pytest.approx(burst.base[0])


def test_the_batch_says_when_the_ranges_overlap() -> None:
    assert "overlap" in drawn("batch", SETS["own"]).sentence
    slow = [
        {**row, "seconds": 10 * row["seconds"]} if row["kind"] == "offline" else row
        for row in toys.own().samples
    ]
    assert "overlap" not in drawn("batch", [toys.record(slow)]).sentence
    assert (
        "nothing to compare"
        in drawn("batch", [toys.without(toys.own(), kind="offline")], unit="tokens/s").sentence
    )
