"""Where weights come from, and what a shape says about tensor parallelism and bytes."""

import json
import shutil
from pathlib import Path

import pytest

from labs.core.errors import UserError
from labs.core.paths import TINY_MODEL
from labs.model import source
from labs.model.architecture import tp_obstacle
from labs.model.source import (
    KNOWN_SHAPES,
    all_reduce_bytes,
    check_tp_divides,
    collectives_per_step,
    resolve,
    valid_tp,
    weight_bytes,
)

QWEN_7B = "Qwen/Qwen2.5-7B-Instruct"
COMMIT = "0" * 40


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No test asks a real hub, and the cache is an empty folder."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    source._from_hub.cache_clear()
    yield
    source._from_hub.cache_clear()


def shape(name: str = QWEN_7B) -> dict:
    return json.loads((KNOWN_SHAPES[name] / "config.json").read_text())


def in_cache(tmp_path: Path, name: str, files: dict[str, str]) -> Path:
    """A repository as huggingface_hub lays it out in its cache."""
    repository = tmp_path / "hub-cache" / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for file, text in files.items():
        (snapshot / file).write_text(text)
    return snapshot


def test_tiny_is_the_checkpoint_in_the_repository_by_name_and_by_folder():
    for found in (resolve("tiny"), resolve(str(TINY_MODEL))):
        assert (found.name, found.weights, found.note) == ("tiny", "tiny", "")
        assert found.path == str(TINY_MODEL)
        assert found.has_tokenizer
        assert found.config["model_type"] == "qwen2"


def test_a_folder_with_weights_is_real(tmp_path):
    copy = tmp_path / "mine"
    shutil.copytree(TINY_MODEL, copy)
    found = resolve(str(copy))
    assert (found.name, found.weights, found.path) == ("mine", "real", str(copy))


def test_a_folder_without_weights_is_dummy_and_says_so(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(shape()))
    found = resolve(str(tmp_path))
    assert found.weights == "dummy"
    assert "no weight files" in found.note
    assert not found.has_tokenizer


def test_a_folder_that_lacks_a_shard_names_it(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(shape()))
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (tmp_path / shards["a"]).write_bytes(b"x")
    with pytest.raises(UserError, match=r"lacks 1 of its weight files, first model-00002-of-00002"):
        resolve(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "a model folder needs a config.json"),
        ("{", "is not valid JSON"),
        ("[1]", "must hold a JSON object, found list"),
    ],
)
def test_a_folder_with_a_bad_config_is_one_line(tmp_path, text, message):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        resolve(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": []}', '{"weight_map": {"a": [1]}}', "{}"])
def test_a_broken_index_of_weight_files_is_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(json.dumps(shape()))
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match=r"index\.json is no index of weight files") as caught:
        resolve(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "qwen", "/no/such/folder", "./nothing/here"])
def test_what_is_neither_a_folder_nor_a_hub_name_is_refused(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no model folder"):
        resolve(name)


def test_a_known_shape_without_hub_or_copy_gets_dummy_weights():
    found = resolve(QWEN_7B)
    assert (found.name, found.weights, found.has_tokenizer) == (QWEN_7B, "dummy", False)
    assert found.note == (
        f"HF_HUB_OFFLINE is set and no local copy of {QWEN_7B}: same shape with dummy weights"
    )
    assert Path(found.path, "config.json").is_file()


def test_an_unknown_hub_name_names_the_known_ones():
    with pytest.raises(
        UserError, match=r"cannot get who/what: HF_HUB_OFFLINE is set.*Qwen/Qwen2\.5-7B"
    ) as caught:
        resolve("who/what")
    assert "\n" not in str(caught.value)


def test_a_complete_cached_copy_is_real_and_needs_no_hub(tmp_path):
    files = {"config.json": json.dumps(shape()), "model.safetensors": "x", "tokenizer.json": "{}"}
    snapshot = in_cache(tmp_path, "some/model", files)
    found = resolve("some/model")
    assert (found.name, found.weights, found.path) == ("some/model", "real", str(snapshot))
    assert found.has_tokenizer


def test_a_cached_config_without_weights_is_no_copy(tmp_path):
    in_cache(tmp_path, QWEN_7B, {"config.json": json.dumps(shape())})
    assert resolve(QWEN_7B).weights == "dummy"


def hub_answers(monkeypatch, answer):
    """Put `answer` (an exception, or a local config.json) in the place of the hub."""
    import huggingface_hub

    def ask(*_args, **_kwargs):
        if isinstance(answer, Exception):
            raise answer

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", ask)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_args, **_kwargs: str(answer))


def test_a_hub_that_has_the_model_makes_it_real(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(shape()))
    hub_answers(monkeypatch, tmp_path / "config.json")
    found = resolve(QWEN_7B)
    assert (found.path, found.weights, found.has_tokenizer) == (QWEN_7B, "real", True)
    assert "first start downloads" in found.note


def hub_error(kind: str) -> Exception:
    from huggingface_hub import errors

    error = getattr(errors, kind)
    return error.__new__(error, "refused")  # their constructors want a response of the transport


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("GatedRepoError", "asks for a login and an accepted licence"),
        ("RepositoryNotFoundError", "has no such model"),
        ("EntryNotFoundError", r"has no config\.json"),
    ],
)
def test_what_the_hub_refuses_is_told_apart(monkeypatch, kind, message):
    hub_answers(monkeypatch, hub_error(kind))
    with pytest.raises(UserError, match=message):
        resolve("who/what")


def test_an_unreachable_hub_is_no_hub(monkeypatch):
    hub_answers(monkeypatch, TimeoutError("no route"))
    assert resolve(QWEN_7B).note.startswith("no hub and no local copy")


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768),
        ("Qwen/Qwen2.5-1.5B-Instruct", 1_543_714_304),
        (QWEN_7B, 7_615_616_512),
    ],
)
def test_weight_bytes_are_those_of_the_public_checkpoints(name, total):
    assert weight_bytes(shape(name)) == 2 * total


def test_weight_bytes_of_tiny_are_the_tensors_on_disk():
    from safetensors import safe_open

    with safe_open(TINY_MODEL / "model.safetensors", framework="np") as file:
        slices = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118 (not a dict)
    numbers = 0
    for part in slices:
        assert part.get_dtype() == "BF16"
        size = 1
        for length in part.get_shape():
            size *= length
        numbers += size
    assert weight_bytes(resolve("tiny").config) == 2 * numbers


def test_collectives_and_their_bytes():
    assert collectives_per_step(shape()) == (57, 1)  # 28 layers
    assert all_reduce_bytes(shape(), tokens=1) == 7168
    assert all_reduce_bytes(shape(), tokens=4096) == 4096 * 3584 * 2


@pytest.mark.parametrize(
    ("name", "sizes"), [("tiny", [1, 2, 4, 8]), (QWEN_7B, [1, 2, 4]), ("Qwen/Qwen2.5-0.5B-Instruct", [1, 2])]
)
def test_valid_tp(name, sizes):
    config = resolve(name).config
    assert valid_tp(config) == sizes
    for tp in sizes:
        check_tp_divides(config, tp)


@pytest.mark.parametrize(
    ("tp", "message"),
    [
        (3, "TP=3 does not divide 28 attention heads; use 1, 2 or 4"),
        (7, "TP=7 neither divides 4 KV heads nor is a multiple of them; use 1, 2 or 4"),
        (28, "TP=28 does not divide 18944 MLP columns; use 1, 2 or 4"),
        (0, "TP=0 is not a number of ranks; use 1, 2 or 4"),
    ],
)
def test_a_tp_that_does_not_fit_says_why_and_what_does(tp, message):
    with pytest.raises(UserError) as caught:
        check_tp_divides(shape(), tp)
    assert str(caught.value) == message


def test_the_vocabulary_is_padded_before_it_is_divided():
    config = resolve("tiny").config | {"vocab_size": 2047}  # odd; vLLM pads it to 2048
    assert tp_obstacle(config, 2) == ""
    config |= {"num_attention_heads": 3, "num_key_value_heads": 1, "intermediate_size": 513}
    assert tp_obstacle(config, 3) == "does not divide 2048 vocabulary rows"


@pytest.mark.parametrize(
    ("key", "value"), [("num_attention_heads", 0), ("num_key_value_heads", 0), ("vocab_size", "many")]
)
def test_a_shape_of_nothing_is_refused(key, value):
    config = resolve("tiny").config | {key: value}
    with pytest.raises(UserError, match=f"needs an integer {key} of 1 or more, found {value!r}"):
        check_tp_divides(config, 1)


def test_only_tp_1_left():
    config = resolve("tiny").config | {"num_attention_heads": 7}
    with pytest.raises(UserError, match=r"use 1$"):
        check_tp_divides(config, 2)


def test_another_kind_of_model_is_refused_by_name():
    with pytest.raises(UserError, match="mixtral"):
        weight_bytes(shape() | {"model_type": "mixtral"})
    with pytest.raises(UserError, match="num_attention_heads"):
        valid_tp({"model_type": "mamba"})
