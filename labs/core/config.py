"""Experiment settings: validated models filled from weeks/weekN/config.yaml, one block a profile.

    cpu:                          # a profile: cpu or gpu
      03_scaling_benchmark:       # the notebook's name
        model: tiny
        tp: [1, 2]

`load(Config, "week5/03_scaling_benchmark", "cpu", tp=[1])` reads the block, puts the overrides over it and
validates. Every fault is a UserError of one line that names the file, the field and what is accepted.
"""

from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from labs.core.errors import UserError
from labs.core.paths import ROOT, WEEKS

Profile = Literal["cpu", "gpu"]
PROFILES: tuple[Profile, ...] = ("cpu", "gpu")


class ExperimentConfig(BaseModel):
    """What every experiment takes. Subclasses add theirs; frozen, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: Profile
    model: str = "tiny"  # "tiny", a local folder with config.json, or a Hugging Face hub name
    seed: int = 0


C = TypeVar("C", bound=ExperimentConfig)


def load(cls: type[C], experiment: str, profile: str, **overrides: Any) -> C:
    """The settings of `experiment` ("week5/03_scaling_benchmark"); overrides that are None do not count."""
    week, _, name = experiment.partition("/")
    path = WEEKS / week / "config.yaml"
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {shown}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{shown} is not valid YAML: not UTF-8 text ({error.reason})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise UserError(f"{shown}{where} is not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(data, dict):
        raise UserError(
            f"{shown} must hold the profiles {' and '.join(PROFILES)}; found {type(data).__name__}"
        )
    if profile not in PROFILES or profile not in data:
        known = ", ".join(name for name in PROFILES if name in data)
        raise UserError(f"unknown profile {profile!r}; {shown} has {known}")
    blocks = data[profile]
    block = blocks.get(name) if isinstance(blocks, dict) else blocks
    if not isinstance(block, dict):
        raise UserError(
            f"{shown} has no settings for {name} under {profile}: found {block!r}, need a mapping"
        )
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return cls.model_validate({"profile": profile, **block, **given})
    except ValidationError as error:
        raise UserError(_fault(error, cls, given, f"{shown}, {profile}, {name}")) from None


def _fault(error: ValidationError, cls: type[ExperimentConfig], given: dict[str, Any], file: str) -> str:
    """The first fault in one line; a misspelt field before the field that is missing because of it."""
    fault = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    field = ".".join(str(part) for part in fault["loc"]) or "settings"
    origin = "given" if fault["loc"] and fault["loc"][0] in given else file
    found = "" if fault["type"] == "missing" else f", found {fault.get('input')!r}"
    known = f"; known fields: {', '.join(cls.model_fields)}" if fault["type"] == "extra_forbidden" else ""
    return f"{field}: {fault['msg']}{found} ({origin}){known}"
