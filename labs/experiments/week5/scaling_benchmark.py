"""Week 5, notebook 03: what do more GPUs buy? Throughput, latency a token, and the price of communication.

One launch a TP size. Inside the ranks, real vLLM (tensor parallel over the ranks of this launch) serves three
offline loads from a warm engine: `saturated` (throughput), `medium`, and `single` (latency a token, timed at n
tokens and at one, so that the difference is pure decode). The same ranks then count the collectives of one decode
step and time vLLM's own all-reduce at the message sizes of those loads.
"""

import argparse

from pydantic import BaseModel, ConfigDict, Field

from labs.analysis.week5 import scaling_benchmark as numbers
from labs.cluster.launch import launch
from labs.core.config import ExperimentConfig
from labs.core.errors import RunFailed
from labs.core.record import Gate
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
    timeout_s: float = Field(default=900, gt=0)  # for one TP size, loading included


def prepare(config: Config) -> Config:
    """Fill in the TP sizes of this machine, or refuse those asked for that it or the model cannot run."""
    return config.model_copy(update={"tp": engines.tp_sizes(config, config.tp)})


def measure_scaling(config: Config, say: Say) -> Part:
    """Every TP size, one after the other: rows `load`, `generate`, `collectives`, `all_reduce`."""
    rows, gates, notes = [], [], []
    model = source.resolve(config.model)
    for tp in config.tp or ():
        engine = engines.engine_config(config, model, tp)
        say(f"TP={tp}: starting {tp} rank{'s' if tp > 1 else ''} of vLLM")
        results = launch(
            f"{RANKS}:measure",
            tp,
            {"engine": engine.model_dump(mode="json"), "experiment": config.model_dump(mode="json")},
            timeout=config.timeout_s,
            env=engines.engine_env(engine),
            on_line=None,
            name=f"scaling-tp{tp}",
            pin=config.profile == "cpu",
        )
        found = [row for result in results for row in result["rows"]]
        rows += found
        gates += [_tokens_gate(tp, found), *(Gate(**gate) for gate in results[0]["gates"])]
        notes += [note for note in results[0]["notes"] if note not in notes]
        best = numbers.summarize(
            [r["output_tokens"] / r["seconds"] for r in found if r.get("load") == "saturated"]
        )
        say(f"TP={tp}: {best.text('output tok/s', 4)}")
    return Part(rows=rows, gates=gates, notes=notes)


def drill_dead_rank(config: Config, say: Say) -> str:
    """A rank dies in the middle of the sweep: which message does the learner get, and what is left running?"""
    say("starting 2 ranks; rank 1 kills itself after its first all-reduce")
    try:
        launch(f"{RANKS}:die", 2, {}, timeout=60, on_line=None, name="drill-dead-rank")
    except RunFailed as error:
        return str(error)
    raise RunFailed("the drill expected rank 1 to die, and it did not")


def _tokens_gate(tp: int, rows: list[dict]) -> Gate:
    """Every rank must have produced as many tokens as asked for: a throughput of missing tokens is no number."""
    made = [row["output_tokens"] for row in rows if row["kind"] == "generate"]
    asked = [row["asked_tokens"] for row in rows if row["kind"] == "generate"]
    return Gate(
        name=f"TP={tp}: every request brought all its tokens",
        passed=made == asked and bool(made),
        value=float(sum(asked) - sum(made)),
        tolerance=0.0,
        detail=f"{sum(made)} tokens in {len(made)} timed calls",
    )


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
