"""Week 5, notebook 01: does tensor parallelism load, split and compute what it should?

`engines` opens real vLLM at every TP size and keeps what each rank holds: seconds to load, weight shards by
name and shape, memory. `agreement` asks whether the split model is still the model: transformers writes a
greedy continuation and its log-probabilities in float32; vLLM at every TP size gives its own for the same
tokens. Nobody's arithmetic is exact in bfloat16, so the tolerance is measured too: transformers in bfloat16
against itself in float32.
"""

from typing import Any

from pydantic import Field

from labs.analysis.week5 import tensor_parallel_setup as numbers
from labs.cluster.launch import launch
from labs.core.config import ExperimentConfig
from labs.core.errors import RunFailed, UserError
from labs.core.record import Gate
from labs.experiments import engines
from labs.experiments.base import Experiment, Part, Say
from labs.model import source
from labs.model.source import ModelSource

RANKS = "labs.experiments.week5.tensor_parallel_ranks"


class Config(ExperimentConfig):
    """Settings of the tensor-parallel setup."""

    tp: tuple[int, ...] | None = None  # None: every size that the model and the machine have
    prompts: tuple[str, ...] = Field(min_length=1)
    output_tokens: int = Field(ge=1)
    noise_factor: float = Field(
        default=3.0, gt=0
    )  # log-probabilities may differ by so many times bf16's own noise
    equal_within: float = Field(default=0.05, gt=0)  # "about equal": (max - min) / mean of the ranks' bytes
    timeout_s: float = Field(default=900, gt=0, allow_inf_nan=False)


def prepare(config: Config) -> Config:
    """Fill in the TP sizes of this machine, or refuse those asked for that it or the model cannot run."""
    return config.model_copy(update={"tp": engines.tp_sizes(config, config.tp)})


def measure_engines(config: Config, say: Say) -> Part:
    """Open an engine at every TP size: rows `load`, `shard`, `memory`, `generation`."""
    model = source.resolve(config.model)
    rows: list[dict[str, Any]] = []
    for tp in config.tp or ():
        say(f"TP={tp}: loading {model.name} on {tp} rank{'s' if tp > 1 else ''}")
        found = _ranks("load", config, model, tp)
        rows += found
        ready = max(row["import_s"] + row["load_s"] for row in found if row["kind"] == "load")
        say(f"TP={tp}: ready after {ready:.1f} s")
    whole = {row["name"]: row["shape"] for row in rows if row["kind"] == "shard" and row["tp"] == 1}
    rows = [{**row, "full_shape": whole.get(row["name"])} if row["kind"] == "shard" else row for row in rows]
    return Part(rows=rows, gates=[_weights_gate(rows, tp) for tp in config.tp or () if whole])


def measure_agreement(config: Config, say: Say) -> Part:
    """Log-probabilities of the same tokens from transformers and from vLLM at every TP: rows `logprobs`."""
    model, notes = source.resolve(config.model), []
    if model.weights == "dummy":
        # Dummy weights are drawn shard by shard: no two TP sizes hold the same model, nothing could agree.
        model = source.resolve("tiny")
        notes.append(
            "agreement is measured on the tiny model: dummy weights differ from one TP size to the next"
        )
        say(notes[0])
    say("transformers: greedy continuation in float32, and the noise of bfloat16")
    reference = launch(
        f"{RANKS}:reference",
        1,
        _settings(config, model),
        timeout=config.timeout_s,
        on_line=None,
        name="reference",
    )[0]
    rows = list(reference)
    tokens = [row["token_ids"] for row in reference if row["source"] == numbers.REFERENCE]
    for tp in config.tp or ():
        if tp not in source.valid_tp(model.config):
            notes.append(f"TP={tp}: the {model.name} model does not split so far; agreement not measured")
            continue
        say(f"TP={tp}: log-probabilities of the same tokens")
        rows += _ranks("score", config, model, tp, continuations=tokens)
    gates = [_agreement_gate(rows, row["source"], config) for row in rows if row["prompt"] == 0]
    return Part(rows=rows, gates=[gate for gate in gates if gate], notes=notes)


def drill_indivisible(config: Config, say: Say) -> str:
    """TP=3: what does a size that does not divide the heads get?"""
    try:
        engines.tp_sizes(config, [3])
    except UserError as error:
        return str(error)
    raise RunFailed(f"the drill expected TP=3 to be refused, and {config.model} takes it")


def _ranks(function: str, config: Config, model: ModelSource, tp: int, **more: Any) -> list[dict[str, Any]]:
    engine = engines.engine_config(config, model, tp)
    results = engines.run_ranks(
        f"{RANKS}:{function}",
        engine,
        {**_settings(config, model), **more},
        timeout=config.timeout_s,
        name=f"{function}-tp{tp}",
    )
    return [row for result in results for row in result]


def _settings(config: Config, model: ModelSource) -> dict[str, Any]:
    return {
        "model_path": model.path,
        "weights": model.weights,
        "prompts": list(config.prompts),
        "output_tokens": config.output_tokens,
        "seed": config.seed,
        "vocab": model.config["vocab_size"],
        "device": "cuda" if config.profile == "gpu" else "cpu",
    }


def _weights_gate(rows: list[dict[str, Any]], tp: int) -> Gate:
    """The shards of all ranks must add up to the whole model at least: nothing may be missing."""
    split = numbers.coverage(rows, tp)
    return Gate(
        name=f"TP={tp}: the shards of every split weight add up to the whole",
        passed=not split["missing"],
        value=float(len(split["missing"])),
        tolerance=0.0,
        detail=", ".join(split["missing"][:3]) or f"{split['weights']} weights",
    )


def _agreement_gate(rows: list[dict[str, Any]], name: str, config: Config) -> Gate | None:
    """Mean |difference| to transformers in float32 within `noise_factor` times what bfloat16 itself costs."""
    if not name.startswith("vLLM"):
        return None
    noise = numbers.difference(rows, numbers.NOISE)
    found = numbers.difference(rows, name)
    tolerance = numbers.tolerance(rows, config.noise_factor)
    return Gate(
        name=f"{name}: log-probabilities agree with transformers",
        passed=found["mean"] <= tolerance,
        value=found["mean"],
        tolerance=tolerance,
        detail=f"mean |difference| over {found['n']} tokens; bfloat16's own noise is {noise['mean']:.2g}",
    )


EXPERIMENT = Experiment(
    stem="week5/01_tensor_parallel_setup",
    command="tensor-parallel",
    help="Load at every tensor-parallel size: shards, memory, and agreement with transformers.",
    config=Config,
    parts={"engines": measure_engines, "agreement": measure_agreement},
    drills={"indivisible": drill_indivisible},
    summary=numbers.summary,
    card=numbers.card,
    prepare=prepare,
)
