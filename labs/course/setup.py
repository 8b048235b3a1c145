"""From a notebook's parameters to settings that this machine can run, and the card that shows them."""

from collections.abc import Sequence
from typing import Any

from labs.cluster import hardware
from labs.core import config as configuration
from labs.core import provenance
from labs.core.config import ExperimentConfig
from labs.core.record import Record
from labs.experiments import engines
from labs.experiments.base import Experiment
from labs.model import source
from labs.report import cards
from labs.report.card import Card


def configure(
    experiment: Experiment, profile: str, model: str | None, overrides: dict[str, Any]
) -> ExperimentConfig:
    """The experiment's settings; UserError for what the machine or the model cannot do.

    A single `tp` counts as a list of one.
    """
    resolved = hardware.resolve_profile(profile)
    if isinstance(overrides.get("tp"), int):
        overrides = {**overrides, "tp": [overrides["tp"]]}
    config = configuration.load(
        experiment.config, experiment.stem, resolved, model=model or None, **overrides
    )
    source.resolve(config.model)
    experiment.prepare(config)  # its checks; each run prepares afresh
    return config


def environment_card(stem: str, config: ExperimentConfig, recorded: Sequence[Record]) -> Card:
    """What the notebook runs on: hardware, versions, model, weights, recorded runs."""
    machine, model = hardware.detect(), source.resolve(config.model)
    usual = engines.tp_sizes(config, None)
    possible = set(hardware.tp_sizes(machine, config.profile)) & set(source.valid_tp(model.config))
    return cards.environment(
        stem,
        hardware=machine.model_dump(mode="json"),
        profile=config.profile,
        versions=provenance.versions(),
        model=model.name,
        weights=model.weights,
        model_note=model.note,
        tp_sizes=usual,
        more_tp_sizes=sorted(possible - set(usual)),
        recorded=recorded,
    )
