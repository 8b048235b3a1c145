"""What an experiment is: a name, settings, parts that measure, and drills that fail on purpose.

A notebook calls the parts one by one (`lab.measure("scaling")`); the command runs all of them. Both end
in the same Record. A part is a function of the settings that returns rows and gates:

    def measure_load(config: Config, say: Say) -> Part:
        ...
        return Part(rows=[{"kind": "load", "tp": 1, "seconds": 2.7}], gates=[Gate(name=…, passed=…)])
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labs.cluster import hardware
from labs.core.config import ExperimentConfig
from labs.core.errors import RunFailed, UserError
from labs.core.paths import runs_dir
from labs.core.record import Gate, Record, Row
from labs.model import source

Say = Callable[[str], None]  # one line of progress for the learner


@dataclass(frozen=True)
class Part:
    """What one part measured: rows of the Record's table, its gates, and notes to keep with them."""

    rows: Sequence[Row] = ()
    gates: Sequence[Gate] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Experiment:
    """One notebook's experiment."""

    stem: str  # "week5/03_scaling_benchmark"
    command: str  # "scaling"
    help: str  # one line
    config: type[ExperimentConfig]
    parts: Mapping[str, Callable[[Any, Say], Part]]  # in the order in which they run
    summary: Callable[[Record], list[dict[str, Any]]]  # the table that the command and the card print
    card: Callable[[Record], list[dict[str, Any]]] | None = (
        None  # the card's, where the summary would give away
    )
    # what a notebook asks to predict after the measurement
    drills: Mapping[str, Callable[[Any, Say], str]] = field(default_factory=dict)
    prepare: Callable[[Any], Any] = lambda config: config  # checks, and fills in what the machine decides
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: (
        None
    )  # dest = a field of `config`


def run(
    experiment: Experiment,
    config: ExperimentConfig,
    parts: Sequence[str] | None = None,
    say: Say = print,
) -> Record:
    """Run the named parts (all by default) and return one Record.

    A mistake in the settings is a UserError before anything starts; a failed gate is a RunFailed.
    """
    chosen = list(experiment.parts) if parts is None else list(parts)
    for name in chosen:
        if name not in experiment.parts:
            raise UserError(f"{experiment.stem} has no part {name!r}; it has {', '.join(experiment.parts)}")
    config = experiment.prepare(config)
    model = source.resolve(config.model)
    runs_dir()  # where the run leaves its logs: said now if that cannot be, not after a start
    if model.note:
        say(model.note)
    began = time.monotonic()
    rows: list[Row] = []
    gates: list[Gate] = []
    notes: list[str] = [model.note] if model.note else []
    for name in chosen:
        part = experiment.parts[name](config, say)
        rows += [{"part": name, **row} for row in part.rows]
        gates += part.gates
        notes += [note for note in part.notes if note not in notes]
        failed = [gate for gate in part.gates if not gate.passed]
        if failed:
            raise RunFailed(_failure(experiment, failed[0]))
    return Record.new(
        experiment.stem,
        config=config.model_dump(mode="json"),
        samples=rows,
        gates=gates,
        seconds=time.monotonic() - began,
        weights=model.weights,
        model=model.name,
        profile=config.profile,
        hardware=hardware.detect().model_dump(mode="json"),
        notes=notes,
    )


def merge(old: Record | None, new: Record) -> Record:
    """Put the parts of `new` over those of `old`, so that a notebook's parts gather in one Record.

    A change of settings starts afresh: rows of two configurations never share a Record.
    """
    if old is None or old.config != new.config:
        return new
    fresh = {row["part"] for row in new.samples}
    names = {gate.name for gate in new.gates}
    return new.model_copy(
        update={
            "samples": [row for row in old.samples if row.get("part") not in fresh] + new.samples,
            "gates": [gate for gate in old.gates if gate.name not in names] + new.gates,
            "seconds": (old.seconds or 0) + (new.seconds or 0),
        }
    )


def _failure(experiment: Experiment, gate: Gate) -> str:
    found = f": found {gate.value:.4g}, at most {gate.tolerance:.4g} passes" if gate.value is not None else ""
    if gate.tolerance is None:
        found = ""
    detail = f" ({gate.detail})" if gate.detail else ""
    return f"{experiment.stem}: correctness gate failed, {gate.name}{found}{detail}; no timing is kept"
