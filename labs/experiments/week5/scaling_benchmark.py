"""Week 5, notebook 03: what do more GPUs buy? Throughput, latency a token, and the price of communication.

One launch a TP size. Inside the ranks, real vLLM (tensor parallel over the ranks of this launch) serves three
offline loads from a warm engine: `saturated` (throughput), `medium`, and `single` (latency a token, timed at
n tokens and at one, so that the difference is pure decode). The same ranks then count the collectives of one
decode step and time vLLM's own all-reduce at the message sizes of those loads.
"""

import argparse

from pydantic import BaseModel, ConfigDict, Field

from labs.analysis.week5 import scaling_benchmark as numbers
from labs.cluster.launch import launch
from labs.core.config import ExperimentConfig
from labs.core.errors import RunFailed
from labs.core.record import Gate, Row
from labs.core.stats import summarize
from labs.experiments import engines
from labs.experiments.base import Experiment, Part, Say
from labs.model import source

RANKS = "labs.experiments.week5.scaling_ranks"


class Load(BaseModel):
    """An offline load: all requests handed to the engine at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: int = Field(ge=1)
    input_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=2)
    repeats: int = Field(ge=1)


class Config(ExperimentConfig):
    """Settings of the scaling benchmark."""

    tp: tuple[int, ...] | None = None  # None: every size that the model and the machine have
    saturated: Load
    medium: Load
    single: Load
    all_reduce_repeats: int = Field(ge=5)
    timeout_s: float = Field(default=900, gt=0, allow_inf_nan=False)  # for one TP size, loading included


def prepare(config: Config) -> Config:
    """Fill in the TP sizes of this machine, or refuse those asked for that it or the model cannot run."""
    return config.model_copy(update={"tp": engines.tp_sizes(config, config.tp)})


def measure_scaling(config: Config, say: Say) -> Part:
    """Every TP size, in turn: rows `load`, `generate`, `bandwidth`, `collectives`, `all_reduce`."""
    rows: list[Row] = []
    gates = []
    model = source.resolve(config.model)
    for tp in config.tp or ():
        say(f"TP={tp}: starting {tp} rank{'s' if tp > 1 else ''} of vLLM")
        results = engines.run_ranks(
            f"{RANKS}:measure",
            engines.engine_config(config, model, tp),
            {"experiment": config.model_dump(mode="json"), "vocab": model.config["vocab_size"]},
            timeout=config.timeout_s,
            name=f"scaling-tp{tp}",
        )
        found = [row for result in results for row in result]
        rows += found
        gates += [_tokens_gate(tp, found), *_count_gate(tp, found, model.config)]
        best = [row["output_tokens"] / row["seconds"] for row in found if row.get("load") == "saturated"]
        say(f"TP={tp}: {summarize(best).text('output tok/s', 4)}")
    return Part(rows=rows, gates=gates)


def drill_dead_rank(config: Config, say: Say) -> str:
    """A rank dies in the middle of the sweep: which message comes, and what is left running?"""
    say("starting 2 ranks; rank 1 kills itself after its first all-reduce")
    try:
        launch(f"{RANKS}:die", 2, {}, timeout=60, on_line=None, name="drill-dead-rank")
    except RunFailed as error:
        return str(error)
    raise RunFailed("the drill expected rank 1 to die, and it did not")


def _tokens_gate(tp: int, rows: list[Row]) -> Gate:
    """Every timed call must have brought all its tokens: a throughput of missing tokens is no number."""
    timed = [row for row in rows if row["kind"] == "generate"]
    short = sum(row["asked_tokens"] - row["output_tokens"] for row in timed)
    return Gate(
        name=f"TP={tp}: every timed call brought all its tokens",
        passed=bool(timed) and all(row["asked_tokens"] == row["output_tokens"] for row in timed),
        value=float(short),
        tolerance=0.0,
        detail=f"{sum(row['output_tokens'] for row in timed)} tokens in {len(timed)} calls",
    )


def _count_gate(tp: int, rows: list[Row], model: dict) -> list[Gate]:
    """Every rank must have sent the all-reduces of the architecture: 2 a layer and the embedding's."""
    expected = source.collectives_per_step(model).all_reduce if tp > 1 else 0
    counts = [
        sum(
            row["count"]
            for row in rows
            if row["kind"] == "collectives" and row["rank"] == rank and row["op"] == "all_reduce"
        )
        for rank in range(tp)
    ]
    return [
        Gate(
            name=f"TP={tp}: all-reduces a step on every rank",
            passed=all(count == expected for count in counts),
            detail=f"{expected} expected, {sorted(set(counts))} counted",
        )
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `python -m labs scaling` beside the common ones."""
    parser.add_argument(
        "--all-reduce-repeats", type=int, metavar="N", help="timed all-reduces a message size"
    )


EXPERIMENT = Experiment(
    stem="week5/03_scaling_benchmark",
    command="scaling",
    help="Throughput, latency a token and communication at every tensor-parallel size.",
    config=Config,
    parts={"scaling": measure_scaling},
    drills={"dead_rank": drill_dead_rank},
    summary=numbers.summary,
    prepare=prepare,
    add_arguments=add_arguments,
)
