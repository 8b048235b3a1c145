"""Which part of which weight a rank holds, from the `shard` rows of a setup Record.

Kind of cut, shape and fused parts are read from the engine. Where a piece lies follows from the rank's
number: blocks in rank order, each matrix of a fused weight cut by itself, and a key/value head that several
ranks need goes to neighbours (vLLM's QKVParallelLinear).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labs.analysis.week5 import tensor_parallel_setup as numbers
from labs.core.record import Record

SPLITS = ("column", "row", "vocabulary", "replicated")


@dataclass(frozen=True)
class Piece:
    """A block of a weight on one rank: rows [start, stop) and columns [start, stop) of the whole."""

    rank: int
    part: str  # "q_proj" of a fused weight, else ""
    rows: tuple[int, int]
    columns: tuple[int, int]


def weights(record: Record) -> dict[str, str]:
    """Matrices and norms of layer 0 and outside the layers: module ("qkv_proj") -> name."""
    names = dict.fromkeys(row["name"] for row in record.rows("shard"))
    chosen = [n for n in names if n.endswith(".weight") and (".layers." not in n or ".layers.0." in n)]
    return {name.split(".")[-2]: name for name in chosen}


def shards(record: Record, tp: int, module: str) -> list[dict[str, Any]]:
    """The `shard` rows of one weight at one size, by rank; [] if it was not loaded."""
    name = weights(record).get(module)
    return sorted(record.rows("shard", tp=tp, name=name), key=lambda row: row["rank"]) if name else []


def whole(row: Mapping[str, Any]) -> tuple[int, int] | None:
    """(rows, columns) of the unsplit weight, a vector as one row; None if TP=1 was not loaded."""
    full = row["full_shape"]
    if full is None:
        return None
    return (1, full[0]) if len(full) == 1 else (full[0], full[1])


def pieces(record: Record, tp: int, module: str) -> list[Piece]:
    """Every rank's blocks of one weight; [] where the size or TP=1, which knows the whole, was not loaded."""
    found: list[Piece] = []
    ones = shards(record, 1, module)
    for row in shards(record, tp, module):
        full, rank = whole(row), row["rank"]
        if full is None or not ones:
            return []
        if row["split"] == "replicated":
            found.append(Piece(rank, "", (0, full[0]), (0, full[1])))
        elif row["split"] == "row":
            step = row["shape"][-1]
            found.append(Piece(rank, "", (0, full[0]), (rank * step, (rank + 1) * step)))
        else:
            found += _blocks(row, ones[0], tp, full[1])
    return found


def part_starts(record: Record, module: str) -> dict[str, int]:
    """First row of each fused matrix in the whole ({"q_proj": 0, "k_proj": 256, …}); {} if not fused."""
    starts: dict[str, int] = {}
    row = next(iter(shards(record, 1, module)), None)
    at = 0
    for part, size in ((row or {}).get("parts") or {}).items():
        starts[part], at = at, at + size
    return starts


def _blocks(row: Mapping[str, Any], one: Mapping[str, Any], tp: int, columns: int) -> list[Piece]:
    sizes = row["parts"] or {"": row["shape"][0]}
    totals = one["parts"] or {"": one["shape"][0]}
    found, base = [], 0
    for part, size in sizes.items():
        copies = max(1, size * tp // totals[part])  # ranks that share a key/value head
        start = base + row["rank"] // copies * size
        found.append(Piece(row["rank"], part, (start, start + size), (0, columns)))
        base += totals[part]
    return found


def held(record: Record, tp: int, rank: int) -> dict[str, int]:
    """Weight bytes of a rank by kind of cut; {} if there is no such rank."""
    rows = record.rows("shard", tp=tp, rank=rank)
    found = {
        split: sum(row["bytes"] * numbers.count(row) for row in rows if row["split"] == split)
        for split in SPLITS
    }
    return found if rows else {}


def share(record: Record, tp: int, rank: int) -> float | None:
    """Weight bytes of a rank relative to those of TP=1; None without both."""
    one, here = held(record, 1, 0), held(record, tp, rank)
    return sum(here.values()) / sum(one.values()) if one and here else None
