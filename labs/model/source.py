"""Where a model's weights come from: `resolve("tiny" | folder | hub name) -> ModelSource`.

A hub name is looked for in the local Hugging Face cache, then on the hub. If neither has it and its
architecture lies in `shapes/`, the lab runs that architecture with dummy (random) weights and says so: the
time of a step depends on the shapes and not on what the weights say, while the text it writes is nonsense.
"""

import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from labs.core.errors import UserError
from labs.core.paths import TINY_MODEL
from labs.model.architecture import (
    Collectives,
    Config,
    all_reduce_bytes,
    check_tp_divides,
    collectives_per_step,
    head_dim,
    heads,
    hidden,
    kv_heads,
    layers,
    max_positions,
    parameters,
    valid_tp,
    weight_bytes,
)

__all__ = [
    "Collectives",
    "Config",
    "ModelSource",
    "all_reduce_bytes",
    "check_tp_divides",
    "collectives_per_step",
    "head_dim",
    "heads",
    "hidden",
    "kv_heads",
    "layers",
    "max_positions",
    "parameters",
    "resolve",
    "valid_tp",
    "weight_bytes",
]

SHAPES = Path(__file__).parent / "shapes"
KNOWN_SHAPES = {
    f"Qwen/Qwen2.5-{size}-Instruct": SHAPES / f"qwen2.5-{size.lower()}-instruct"
    for size in ("0.5B", "1.5B", "7B")
}
HUB_TIMEOUT_S = 5.0
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


class ModelSource(BaseModel):
    """A model as an engine needs it. `note` is "" or one line for the reader and the Record."""

    model_config = ConfigDict(frozen=True)

    name: str
    path: str  # a folder with config.json, or a hub name that the engine downloads
    weights: Literal["real", "dummy", "tiny"]
    note: str = ""
    has_tokenizer: bool
    config: Config


def resolve(model: str) -> ModelSource:
    """The source of `model`. UserError (one line) for a missing folder or a name that nothing provides.

    Downloads nothing but a hub model's config.json; the engine fetches the weights.
    """
    if model == "tiny":
        return _from_folder(TINY_MODEL, "tiny")
    folder = Path(model).expanduser()
    if model and folder.is_dir():  # Path("") is the current folder
        return _from_folder(folder, folder.resolve().name)
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model):
        raise UserError(f"no model folder {model!r}; give 'tiny', a folder with config.json, or a hub name")
    if cached := _cached(model):
        return _from_folder(cached, model)
    config, absent = _from_hub(model)
    if config is not None:
        note = f"{model} comes from the hub: the first start downloads its weights"
        return ModelSource(
            name=model, path=model, weights="real", note=note, has_tokenizer=True, config=config
        )
    if shape := KNOWN_SHAPES.get(model):
        note = f"{absent} and no local copy of {model}: same shape with dummy weights"
        return _from_folder(shape, model).model_copy(update={"note": note})
    raise UserError(
        f"cannot get {model}: {absent}, no local copy and no known shape; "
        f"use 'tiny', a folder with config.json, or one of {', '.join(KNOWN_SHAPES)}"
    )


def _from_folder(folder: Path, name: str) -> ModelSource:
    config = _read_config(folder)
    missing = missing_weights(folder)
    if missing and has_any_weights(folder):
        raise UserError(
            f"{folder} lacks {len(missing)} of its weight files, first {missing[0]}; fetch it again"
        )
    tiny = folder.resolve() == TINY_MODEL
    note = f"{folder} has no weight files: its shape with dummy weights" if missing else ""
    return ModelSource(
        name="tiny" if tiny else name,
        path=str(folder),
        weights="dummy" if missing else "tiny" if tiny else "real",
        note=note,
        has_tokenizer=any((folder / file).is_file() for file in TOKENIZER_FILES),
        config=config,
    )


def _read_config(folder: Path) -> Config:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror or error}; a model folder needs a config.json"
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} must hold a JSON object, found {type(config).__name__}")
    return config


def missing_weights(folder: Path) -> list[str]:
    """Weight files that `folder` should have and lacks; [] if it can be loaded. UserError: broken index."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            raise UserError(f"{index} is no index of weight files; fetch the model again") from None
        return sorted(shard for shard in shards if not (folder / shard).is_file())
    return [] if has_any_weights(folder) else ["model.safetensors"]


def has_any_weights(folder: Path) -> bool:
    """Whether `folder` holds at least one safetensors or PyTorch weight file."""
    return any(next(folder.glob(pattern), None) for pattern in ("*.safetensors", "pytorch_model*.bin"))


def _cached(model: str) -> Path | None:
    """The snapshot folder of `model` in the local Hugging Face cache, if its weights are complete."""
    try:
        from huggingface_hub import constants, try_to_load_from_cache
    except ImportError:
        return None
    cache = os.environ.get("HF_HUB_CACHE", constants.HF_HUB_CACHE)
    found = try_to_load_from_cache(model, "config.json", cache_dir=cache)
    if not isinstance(found, str):  # None, or the marker of a file that the hub is known to lack
        return None
    folder = Path(found).parent
    return None if missing_weights(folder) else folder


@lru_cache(maxsize=32)
def _from_hub(model: str) -> tuple[Config | None, str]:
    """(config, "") from the hub, or (None, why not). One quick question; without a hub nobody waits long."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return None, "HF_HUB_OFFLINE is set"
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError
    except ImportError:
        return None, "no huggingface_hub package"
    try:
        get_hf_file_metadata(hf_hub_url(model, "config.json"), timeout=HUB_TIMEOUT_S)
        path = hf_hub_download(model, "config.json", etag_timeout=HUB_TIMEOUT_S)
        return _read_config(Path(path).parent), ""
    except GatedRepoError:  # before its parent RepositoryNotFoundError
        return None, "the hub asks for a login and an accepted licence"
    except RepositoryNotFoundError:
        return None, "the hub has no such model"
    except EntryNotFoundError:
        return None, "the hub's copy has no config.json"
    except Exception:  # every transport has its own errors, and all of them mean that there is no hub here
        return None, "no hub"
