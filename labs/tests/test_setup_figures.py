"""The figures of notebook 01 on toy Records: own, recorded, both, rows missing, predictions given or not."""

from collections.abc import Sequence
from typing import Any

import pytest

from labs.core.record import Record
from labs.report import figure
from labs.report.week5 import setup_holdings, setup_parts
from labs.report.week5.tensor_parallel_setup import CLAIM, FIGURES
from labs.tests import setup_toys as toys

OWN, OLD = toys.own(), toys.recorded()
SETS: dict[str, list[Record]] = {
    "own": [OWN],
    "recorded": [OLD],
    "both": [OWN, OLD],
    "two recorded": [OWN, OLD, toys.recorded()],
    "own at TP=1 alone": [toys.own((1,)), OLD],
    "own without TP=1": [toys.own((2,)), OLD],
    "copied heads": [toys.copied(), OLD],
}
GUESSES = {
    "W5.N1.P1": {"value": 30},
    "W5.N1.P2": {"value": 52},
    "W5.N1.P3": {"value": 1.5},
    "W5.N1.P4": {"value": 90},
    "W5.N1.P5": {"value": 0},
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
    variants += [{key: option} for key, options in choices.items() for option in options]
    for controls in variants:
        shown = figure.render(spec, SETS[records], predictions, **controls)
        assert shown.sentence
        assert figure.problems(shown.figure) == []
        assert shown.empty or shown.table
        assert "None" not in shown.sentence + "".join(str(trace.name) for trace in shown.figure.data)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("kind", ["load", "memory", "shard", "generation", "logprobs"])
def test_every_figure_renders_without_rows_of_a_kind(name: str, kind: str) -> None:
    for records in ([toys.without(OWN, kind)], [toys.without(OWN, kind), OLD]):
        shown = render(name, records, GUESSES)
        assert shown.sentence
        assert figure.problems(shown.figure) == []


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_renders_with_columns_not_measured(name: str) -> None:
    bare = toys.lacking(OWN, "memory", "used_bytes", "before_bytes", "rss_bytes")
    bare = toys.lacking(bare, "load", "generate_s", "kv_tokens", "kv_heads")
    for records in ([bare], [bare, OLD]):
        shown = render(name, records, GUESSES)
        assert figure.problems(shown.figure) == []
        assert "None" not in shown.sentence


@pytest.mark.parametrize("name", FIGURES)
def test_no_run_says_so(name: str) -> None:
    assert render(name, []).empty
    assert render(name, [toys.record([])]).empty


def test_start_up_stands_beside_the_predicted_one() -> None:
    shown = render("start", SETS["both"], GUESSES)
    (star,) = stars(shown.figure)
    assert (list(star.x), list(star.y)) == (["TP=2"], [15])  # 30 times 0.5 s
    assert "28 times as long" in shown.sentence


def test_holdings_mark_an_even_split_and_name_the_share() -> None:
    shown = render("holdings", SETS["both"], GUESSES)
    even = next(trace for trace in shown.figure.data if trace.name == setup_holdings.EVEN)
    assert list(even.y) == [100, 50]
    bars = [t for t in shown.figure.data if t.type == "bar" and t.name.startswith("recorded")]
    assert sum(bar.y[2] for bar in bars) == pytest.approx(25, abs=0.01)
    assert "TP=2: one rank holds 50.02 % of the" in shown.sentence
    (star,) = stars(shown.figure)
    assert (list(star.x), list(star.y)) == (["TP=2"], [52])


def test_a_weight_is_drawn_piece_by_piece() -> None:
    shown = render("shards", [OWN], weight="o_proj", tp=2)
    left, right = shown.figure.data
    assert (min(x for x in right.x if x is not None), max(x for x in left.x if x is not None)) == (128, 128)
    assert shown.sentence == (
        "Your run: o_proj [256, 256] is cut by input (row parallel); at TP=2 each rank holds [256, 128], "
        "128 KiB, 50 % of it."
    )
    assert [row["columns"] for row in shown.table] == ["0–127", "128–255"]


def test_small_pieces_carry_no_label_that_would_cover_its_neighbours() -> None:
    shown = render("shards", [OLD], weight="qkv_proj", tp=4)
    labels = [note.text for note in shown.figure.layout.annotations if note.text.startswith("rank")]
    assert labels == ["rank 0", "rank 1", "rank 2", "rank 3"]
    assert shown.figure.layout.yaxis.ticktext == ("q 0", "k 3,584", "v 4,096", "4,608")


def test_a_replicated_weight_is_drawn_once_a_rank() -> None:
    shown = render("shards", [OWN], weight="input_layernorm", tp=2)
    assert "replicated" in shown.sentence
    assert shown.figure.layout.yaxis.ticktext == (0, 1)


def test_why_a_weight_cannot_be_drawn() -> None:
    assert "there are 1, 2" in FIGURES["shards"].draw([OWN], {}, "qkv_proj", 4, None).layout.meta["empty"]
    assert render("shards", [toys.own((2,))]).sentence == setup_parts.NO_WHOLE


def test_memory_says_the_verdict_in_words_and_in_the_table() -> None:
    shown = render("memory", SETS["both"], GUESSES)
    assert "weights about equal (spread 0 %, up to 5 % passes)" in shown.sentence
    last = [row for row in shown.table if row["rank"] == "about equal?"]
    assert [row["weights MiB"] for row in last] == ["yes, spread 0 %"] * 2
    (star,) = stars(shown.figure)
    assert star.y[0] == pytest.approx(0.9 * 1_765_000_000 / 2**30)
    assert not stars(render("memory", SETS["both"], GUESSES, show="weights only").figure)
    assert not stars(render("memory", SETS["both"], GUESSES, tp=1).figure)


def test_a_layer_on_one_rank_alone_is_not_about_equal() -> None:
    rows = [
        {**r, "weight_bytes": 2 * r["weight_bytes"]} if r["kind"] == "memory" and r["rank"] else r
        for r in OWN.samples
    ]
    assert "weights not equal (spread 67 %" in render("memory", [toys.record(rows)]).sentence


def test_memory_says_what_was_not_measured() -> None:
    shown = render("memory", [toys.lacking(OWN, "memory", "used_bytes")])
    assert "memory in use not measured" in shown.sentence
    assert shown.table[0]["in use MiB"] is None


def test_capacity_draws_the_claim_as_a_claim() -> None:
    shown = render("capacity", SETS["both"], GUESSES)
    claim = next(trace for trace in shown.figure.data if trace.name == CLAIM)
    assert (claim.meta["source"], list(claim.y)) == ("reference", [1, 4])
    (star,) = stars(shown.figure)
    assert (list(star.x), list(star.y)) == ([2], [1.5])
    assert "524,288 tokens, 2 times as many" in shown.sentence


def test_no_difference_stands_at_the_left_edge() -> None:
    shown = render("differences", SETS["both"], GUESSES)
    assert all(x is None or x > 0 for trace in shown.figure.data for x in trace.x)
    (star,) = stars(shown.figure)
    assert star.x[0] == shown.figure.layout.xaxis.tickvals[0]
    assert shown.figure.layout.xaxis.ticktext[0] == "0"
    assert shown.table[1]["exactly equal"] == 8
    assert "within the tolerance of 0.03" in shown.sentence


def test_dummy_weights_are_compared_on_the_tiny_model_and_the_figure_says_so() -> None:
    names = [trace.name for trace in render("differences", [OLD]).figure.data]
    assert "a token, recorded: 4x NVIDIA H200, tiny model" in names


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, "not measured"), (512, "512 B"), (2304, "2.25 KiB"), (15.25 * 2**30, "15.25 GiB")],
)
def test_sizes_read_well(size: float | None, text: str) -> None:
    assert setup_parts.nbytes(size) == text
