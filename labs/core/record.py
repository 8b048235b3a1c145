"""The Record: raw samples plus provenance, one JSON file an experiment. Everything else is derived from it.

Schema `labs.record/1` (fields below; unknown fields are refused). `samples` is one flat table: each row is a
JSON object with a `kind` ("load", "generate", "request", …) and the columns which that kind has. What was not
measured is null, never 0. Times are seconds unless the column's name says otherwise (`_ms`, `_us`).
"""

import json
import os
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labs.core import atomic, provenance
from labs.core.errors import UserError

SCHEMA: Literal["labs.record/1"] = "labs.record/1"
Row = dict[str, Any]


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="constants"
    )  # NaN is a fault, not null


class Gate(_Model):
    """A correctness check that stands before the timing: a failed one is an error, not a number."""

    name: str
    passed: bool
    value: float | None = None  # what was found
    tolerance: float | None = None  # the most that passes
    detail: str = ""


class Provenance(_Model):
    """Where the numbers come from."""

    source: Literal["measured", "recorded"]  # recorded: kept from another machine and shown as such
    weights: Literal["real", "dummy", "tiny"]
    model: str
    profile: str
    hardware: dict[str, Any]
    versions: dict[str, str | None]
    git_commit: str | None = None
    git_dirty: bool | None = None
    command: str = ""
    notes: list[str] = Field(default_factory=list)


class Record(_Model):
    """One run of one experiment."""

    schema_version: Literal["labs.record/1"] = SCHEMA
    experiment: str  # "week5/03_scaling_benchmark"
    created: str  # UTC, ISO 8601
    seconds: float | None  # wall time of the whole run
    provenance: Provenance
    config: dict[str, Any]
    gates: list[Gate] = Field(default_factory=list)
    samples: list[Row] = Field(default_factory=list)

    @classmethod
    def new(
        cls,
        experiment: str,
        *,
        config: dict[str, Any],
        samples: list[Row],
        seconds: float | None,
        weights: Literal["real", "dummy", "tiny"],
        model: str,
        profile: str,
        hardware: dict[str, Any],
        gates: list[Gate] | None = None,
        notes: list[str] | None = None,
    ) -> "Record":
        """A measured Record with versions, commit and command filled in from this process."""
        commit, dirty = provenance.git_state()
        return cls(
            experiment=experiment,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=seconds,
            provenance=Provenance(
                source="measured",
                weights=weights,
                model=model,
                profile=profile,
                hardware=hardware,
                versions=provenance.versions(),
                git_commit=commit,
                git_dirty=dirty,
                command=os.environ.get("LABS_COMMAND") or shlex.join(_command()),
                notes=notes or [],
            ),
            config=config,
            gates=gates or [],
            samples=samples,
        )

    def rows(self, kind: str, **where: Any) -> list[Row]:
        """The samples of one kind whose columns equal `where`."""
        return [
            row
            for row in self.samples
            if row.get("kind") == kind and all(row.get(key) == value for key, value in where.items())
        ]

    def values(self, kind: str, column: str, **where: Any) -> list[Any]:
        """One column of `rows(kind, **where)`, without the entries that were not measured."""
        return [row[column] for row in self.rows(kind, **where) if row.get(column) is not None]

    def as_recorded(self, note: str = "") -> "Record":
        """A copy labelled `recorded`, for weeks/*/recorded/; which GPUs they were (uuid) is left out."""
        notes = [*self.provenance.notes, note] if note else self.provenance.notes
        gpus = [
            {k: v for k, v in gpu.items() if k != "uuid"} for gpu in self.provenance.hardware.get("gpus", [])
        ]
        hardware = {**self.provenance.hardware, "gpus": gpus}
        marked = self.provenance.model_copy(
            update={"source": "recorded", "notes": notes, "hardware": hardware}
        )
        return self.model_copy(update={"provenance": marked})

    def label(self) -> str:
        """Where the numbers come from, in one line, for a figure's subtitle."""
        origin = self.provenance
        model = {"real": origin.model, "dummy": f"{origin.model}, dummy weights", "tiny": "tiny model"}
        hardware = origin.hardware.get("summary", "unknown hardware")
        return f"{origin.source} on {hardware}, {model[origin.weights]}, {self.created[:10]}"

    def save(self, path: Path | str) -> Path:
        """Write the Record as JSON, whole or not at all; one row a line, so that a diff reads."""
        data = self.model_dump(mode="json")
        rows = [_json(row) for row in data.pop("samples")]
        table = "[\n  " + ",\n  ".join(rows) + "\n ]" if rows else "[]"
        return atomic.write_text(path, _json(data, indent=1)[:-2] + f',\n "samples": {table}\n}}\n')

    @classmethod
    def load(cls, path: Path | str) -> "Record":
        """Read a Record back and validate it; UserError names the file and the first fault."""
        path = Path(path)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"cannot read the Record {path}: {error.strerror or error}") from None
        except ValueError as error:
            raise UserError(
                f"{path} is not a Record: not valid JSON ({error}); run the experiment again"
            ) from None
        found = data.get("schema_version") if isinstance(data, dict) else type(data).__name__
        if found != SCHEMA:
            raise UserError(
                f"{path} is not a Record of schema {SCHEMA} (found {found!r}); run the experiment again"
            )
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(str(part) for part in fault["loc"])
            raise UserError(f"{path} is a broken Record: {where}: {fault['msg']}") from None


def _json(value: Any, indent: int | None = None) -> str:
    separators = (",", ": ") if indent else (",", ":")
    return json.dumps(value, indent=indent, separators=separators, allow_nan=False, ensure_ascii=False)


def _command() -> list[str]:
    """This process's command as a user would type it (`python -m labs …`), without paths of the machine."""
    name = Path(sys.argv[0])
    if "ipykernel" in str(name):
        return []  # a notebook: the experiment's name says which
    if name.name == "__main__.py":
        return ["python", "-m", name.parent.name, *_without_out(sys.argv[1:])]
    return [name.name, *_without_out(sys.argv[1:])]


def _without_out(arguments: list[str]) -> list[str]:
    kept, skip = [], False
    for argument in arguments:
        if not skip and argument != "--out" and not argument.startswith("--out="):
            kept.append(argument)
        skip = argument == "--out"
    return kept
