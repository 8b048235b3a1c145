"""A notebook's Records: the learner's own in runs/, those of other machines in weeks/*/recorded/."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from labs.core.errors import UserError
from labs.core.paths import recorded_dir, runs_dir
from labs.core.record import Record
from labs.experiments import base


def path(stem: str) -> Path:
    """runs/week5/03_scaling_benchmark.json."""
    return runs_dir() / f"{stem}.json"


def own(stem: str) -> Record | None:
    """The learner's own Record, or None; UserError if the file is broken."""
    return Record.load(path(stem)) if path(stem).exists() else None


def keep(stem: str, new: Record) -> list[str]:
    """Merge what was just measured into the kept Record; notices for the learner (a file set aside)."""
    notices = []
    try:
        old = own(stem)
    except UserError as error:
        old = None
        aside = path(stem).with_name(f"{path(stem).stem}.broken-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
        os.replace(path(stem), aside)
        notices.append(f"{error}; that file is kept as {aside.name}")
    base.merge(old, new).save(path(stem))
    return notices


def recorded(stem: str) -> tuple[list[Record], list[str]]:
    """(the committed Records of this notebook, what is wrong with the others), by file name."""
    week, _, name = stem.partition("/")
    found, broken = [], []
    for file in sorted(recorded_dir(week).glob(f"{name}*.json")):
        try:
            record = Record.load(file)
            if record.experiment != stem or record.provenance.source != "recorded":
                raise UserError(f"{file} is no recorded run of {stem}")
            found.append(record)
        except UserError as error:
            broken.append(str(error))
    return found, broken


def has_part(record: Record | None, part: str) -> bool:
    """Whether the Record holds rows of a part."""
    return record is not None and any(row.get("part") == part for row in record.samples)


def only_parts(record: Record, parts: Sequence[str]) -> Record:
    """The Record without the rows of other parts."""
    rows = [row for row in record.samples if row.get("part") in parts]
    return record.model_copy(update={"samples": rows})
