"""From an experiment's settings to an engine's: which TP sizes, which limits, and the ranks that hold it."""

from collections.abc import Mapping, Sequence
from typing import Any

from labs.cluster import hardware
from labs.cluster.launch import launch
from labs.core.config import ExperimentConfig
from labs.core.errors import UserError
from labs.model import source
from labs.model.source import ModelSource
from labs.serving.engine import EngineConfig, engine_env

SIZES = (1, 2, 4, 8)
CPU_SIZES = (1, 2)  # more ranks than cores only wait for each other

# The reference row's settings (weeks/week5/README.md, "Expected results"), so that a run compares with it.
LIMITS: dict[str, dict[str, Any]] = {
    "gpu": {"max_model_len": 4096, "max_num_seqs": 256, "max_num_batched_tokens": 16384},
    "cpu": {"max_model_len": 2048, "max_num_seqs": 64, "max_num_batched_tokens": 2048, "kv_cache_gib": 1},
}


def tp_sizes(config: ExperimentConfig, asked: Sequence[int] | None) -> tuple[int, ...]:
    """The sizes asked for, checked; or every one that the machine and the model have."""
    machine, model = hardware.detect(), source.resolve(config.model)
    if asked is None:
        here = CPU_SIZES if config.profile == "cpu" else [n for n in SIZES if n <= len(machine.gpus)]
        return tuple(n for n in here if n in source.valid_tp(model.config))
    if not asked or len(set(asked)) != len(asked):
        raise UserError(
            f"--tp wants different sizes, such as 1 2 4; found {' '.join(map(str, asked)) or 'none'}"
        )
    for tp in asked:
        source.check_tp_divides(model.config, tp)
        hardware.check_tp(tp, machine, config.profile)
    return tuple(asked)


def engine_config(config: ExperimentConfig, model: ModelSource, tp: int, **settings: Any) -> EngineConfig:
    """The engine of one TP size with the profile's limits; `settings` win over them."""
    limits = {**LIMITS[config.profile], **settings}
    limits["max_model_len"] = min(limits["max_model_len"], source.max_positions(model.config))
    return EngineConfig(
        model_path=model.path,
        weights=model.weights,
        has_tokenizer=model.has_tokenizer,
        profile=config.profile,
        tp=tp,
        seed=config.seed,
        **limits,
    )


def run_ranks(
    target: str, engine: EngineConfig, config: Mapping[str, Any], *, timeout: float, name: str
) -> list[Any]:
    """Start the ranks of one engine on `target`, hand them both settings; results by rank."""
    return launch(
        target,
        engine.tp,
        {"engine": engine.model_dump(mode="json"), **config},
        timeout=timeout,
        env=engine_env(engine),
        on_line=None,  # vLLM's own log goes to the run's folder; a failure quotes it
        name=name,
        pin=engine.profile == "cpu",
    )
