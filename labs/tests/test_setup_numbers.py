"""The numbers of the tensor-parallel setup on rows whose answers are known by hand."""

import pytest

from labs.analysis.week5 import tensor_parallel_setup as numbers
from labs.analysis.week5 import tensor_parallel_shards as shards
from labs.analysis.week5.tensor_parallel_shards import Piece
from labs.core.config import load
from labs.experiments.week5 import tensor_parallel_ranks as ranks
from labs.experiments.week5 import tensor_parallel_setup as setup
from labs.tests import setup_toys as toys

OWN, OLD, COPIED = toys.own(), toys.recorded(), toys.copied()


def test_start_up_is_that_of_the_rank_which_was_ready_last() -> None:
    two = numbers.start_up(OWN, 2)  # rank 0: 4 + 10 s, rank 1: 5 + 8 s
    assert (two["import_s"], two["load_s"], two["total_s"]) == (4.0, 10.0, 14.0)
    assert two["ratio"] == pytest.approx(28)
    assert set(numbers.start_up(OWN, 4).values()) == {None}
    assert numbers.start_up(toys.lacking(OWN, "load", "generate_s"), 2)["ratio"] is None


def test_the_parts_of_memory_add_up_to_what_is_in_use() -> None:
    for record, tp in ((OWN, 2), (OLD, 4)):
        for row in numbers.memory(record, tp):
            assert row["rest"]
            assert sum(row[part] or 0 for part in ("before", "weights", "kv", "rest")) == row["used"]


@pytest.mark.parametrize("column", ["used_bytes", "before_bytes"])
def test_no_rest_without_all_of_the_others(column: str) -> None:
    rows = numbers.memory(toys.lacking(OWN, "memory", column), 2)
    assert [row["rest"] for row in rows] == [None, None]


def test_a_cache_that_is_set_aside_but_not_resident_leaves_no_negative_rest() -> None:
    rows = [{**r, "kv_bytes": 50 * toys.GIB} if r["kind"] == "memory" else r for r in OWN.samples]
    assert [row["rest"] for row in numbers.memory(toys.record(rows), 2)] == [None, None]


def test_memory_in_use_relative_to_one_rank() -> None:
    assert numbers.used_ratio(OWN, 2) == pytest.approx(1_765_500_000 / 1_765_000_000)
    assert numbers.used_ratio(toys.own((2,)), 2) is None
    assert numbers.used_ratio(toys.lacking(OWN, "memory", "used_bytes"), 2) is None


@pytest.mark.parametrize(("values", "equal"), [([100, 104], True), ([100, 110], False), ([100, None], None)])
def test_about_equal(values: list[float | None], equal: bool | None) -> None:
    found = numbers.about_equal(values, 0.05)
    assert (found and found["equal"]) is equal


def test_capacity_relates_tokens_to_one_rank_and_bytes_to_tokens() -> None:
    one, two = numbers.capacity(OWN)
    assert (one["ratio"], two["ratio"]) == (1, 2)
    assert (one["kv_heads"], two["kv_heads"]) == (4, 2)
    assert (one["token_bytes"], two["token_bytes"]) == (4096, 2048)
    assert numbers.capacity(OLD)[-1]["ratio"] == pytest.approx(8_529_984 / 1_912_944)
    assert [row["ratio"] for row in numbers.capacity(toys.own((2,)))] == [None]


def test_differences_tolerance_and_the_pairs_that_are_compared() -> None:
    noise = numbers.difference(OLD.samples, numbers.NOISE)
    assert (noise["mean"], noise["max"], noise["n"]) == (pytest.approx(0.01), pytest.approx(0.02), 8)
    assert numbers.run_tolerance(OLD) == pytest.approx(0.03)
    assert numbers.difference(OLD.samples, "vLLM TP=4")["mean"] == pytest.approx(0.00375)
    assert numbers.between_sizes(OLD) == pytest.approx(0.009)
    assert numbers.between_sizes(toys.own((1,))) is None
    assert [name for name, against in numbers.comparisons(OLD) if against == "vLLM TP=1"] == [
        "vLLM TP=2",
        "vLLM TP=4",
    ]
    assert numbers.comparisons(toys.without(OWN, "logprobs")) == []


def test_an_unknown_source_differs_infinitely_so_that_no_gate_passes() -> None:
    assert numbers.difference(OWN.samples, "vLLM TP=8") == {"mean": float("inf"), "max": float("inf"), "n": 0}


def test_greedy_tokens_are_compared_up_to_the_first_difference() -> None:
    rows = [
        {**r, "token_ids": [5, 6, 9, 8]} if r["kind"] == "generation" and r["tp"] == 2 else r
        for r in OWN.samples
    ]
    assert numbers.same_tokens(toys.record(rows), 2) == (2, 4)
    assert numbers.same_tokens(OWN, 2) == (4, 4)
    assert numbers.same_tokens(OLD, 2) is None  # dummy weights are another model at every size


def test_the_shards_of_every_kind_of_cut_cover_the_whole() -> None:
    for record, sizes, layers in ((OWN, (1, 2), 4), (OLD, (1, 2, 4), 28), (COPIED, (1, 2, 4), 2)):
        for tp in sizes:
            assert numbers.coverage(record.samples, tp) == {"weights": 1 + 6 * layers, "missing": []}


@pytest.mark.parametrize(
    "change", [{"shape": [128, 256]}, {"shape": [256]}, {"count": 3}], ids=["short", "flat", "a layer less"]
)
def test_a_missing_piece_is_named(change: dict) -> None:
    name = "model.layers.0.self_attn.qkv_proj.weight"
    at = {"kind": "shard", "tp": 2, "rank": 1, "name": name}
    rows = [{**r, **change} if at.items() <= r.items() else r for r in OWN.samples]
    assert numbers.coverage(rows, 2)["missing"] == [name]
    gone = [row for row in OWN.samples if not at.items() <= row.items()]
    assert numbers.coverage(gone, 2)["missing"] == [name]


def area(found: list[Piece]) -> int:
    return sum((p.rows[1] - p.rows[0]) * (p.columns[1] - p.columns[0]) for p in found)


@pytest.mark.parametrize("tp", [1, 2, 4])
@pytest.mark.parametrize("weight", ["qkv_proj", "o_proj", "gate_up_proj", "down_proj", "embed_tokens"])
def test_pieces_tile_the_whole_and_have_the_shards_shapes(weight: str, tp: int) -> None:
    found = shards.pieces(OLD, tp, weight)
    full = shards.whole(shards.shards(OLD, tp, weight)[0])
    assert full is not None
    assert area(found) == full[0] * full[1]
    for row in shards.shards(OLD, tp, weight):
        mine = [piece for piece in found if piece.rank == row["rank"]]
        assert area(mine) == row["shape"][0] * row["shape"][1]
        assert all(p.rows[1] <= full[0] and p.columns[1] <= full[1] for p in mine)


def test_a_fused_weight_is_cut_matrix_by_matrix() -> None:
    assert shards.pieces(OWN, 2, "qkv_proj")[3:] == [
        Piece(1, "q_proj", (128, 256), (0, 256)),
        Piece(1, "k_proj", (320, 384), (0, 256)),
        Piece(1, "v_proj", (448, 512), (0, 256)),
    ]
    assert shards.part_starts(OWN, "qkv_proj") == {"q_proj": 0, "k_proj": 256, "v_proj": 384}
    assert shards.part_starts(OWN, "o_proj") == {}


def test_ranks_beyond_the_kv_heads_hold_copies_in_neighbouring_pairs() -> None:
    keys = [piece.rows for piece in shards.pieces(COPIED, 4, "qkv_proj") if piece.part == "k_proj"]
    assert keys == [(64, 72), (64, 72), (72, 80), (72, 80)]
    four, two = shards.share(COPIED, 4, 0), shards.share(COPIED, 2, 0)
    assert four
    assert two
    assert four > two / 2


def test_a_replicated_weight_is_whole_on_every_rank() -> None:
    assert shards.pieces(OWN, 2, "input_layernorm") == [
        Piece(0, "", (0, 1), (0, 256)),
        Piece(1, "", (0, 1), (0, 256)),
    ]


def test_without_tp1_nobody_knows_the_whole() -> None:
    alone = toys.own((2,))
    assert shards.pieces(alone, 2, "qkv_proj") == []
    assert shards.share(alone, 2, 1) is None


def test_bytes_count_every_layer() -> None:
    assert sum(shards.held(OLD, 1, 0).values()) == numbers.rank_bytes(OLD, 1, "weight_bytes")[0]
    norms = shards.held(OWN, 1, 0)["replicated"] / sum(shards.held(OWN, 1, 0).values())
    assert shards.share(OWN, 2, 1) == pytest.approx(0.5 + 0.5 * norms)


def test_one_row_a_layer_counts_as_one_row_for_all() -> None:
    """Records made before `count` have a row for each layer."""
    rows = [
        {k: v for k, v in row.items() if k != "count"} | {"name": row["name"].replace(".0.", f".{layer}.")}
        for row in OWN.samples
        if row["kind"] == "shard"
        for layer in range(row["count"])
    ]
    old = toys.record(rows)
    assert numbers.coverage(rows, 2) == numbers.coverage(OWN.samples, 2)
    assert shards.held(old, 2, 1) == shards.held(OWN, 2, 1)
    assert shards.pieces(old, 2, "qkv_proj") == shards.pieces(OWN, 2, "qkv_proj")


def test_the_card_leaves_out_what_has_not_run() -> None:
    assert "mean |Δ log p|" in numbers.summary(OWN)[0]
    assert "mean |Δ log p|" not in numbers.card(toys.without(OWN, "logprobs"))[0]
    assert [row["ranks about equal"] for row in numbers.card(OLD)] == ["-", "yes", "yes"]


def test_weights_that_differ_only_in_their_layer_become_one_row() -> None:
    def row(name: str, rows: int) -> dict:
        return {"name": name, "shape": [rows, 4], "dtype": "toy", "bytes": 4 * rows, "split": "column"}

    table = [row("embed.weight", 8), row("layers.0.up.weight", 2), row("layers.1.up.weight", 2)]
    table.append(row("layers.2.up.weight", 3))  # an odd layer keeps a row of its own
    assert [(one["name"], one["count"]) for one in ranks._alike(table)] == [
        ("embed.weight", 1),
        ("layers.0.up.weight", 2),
        ("layers.2.up.weight", 1),
    ]


def test_the_drill_refuses_three_ranks_before_anything_starts() -> None:
    settings = load(setup.Config, toys.STEM, "cpu")
    said = setup.drill_indivisible(settings, lambda line: pytest.fail(f"started: {line}"))
    assert said.startswith("TP=3 does not divide 8 attention heads")
