"""Records: written whole, read back equal, refused when broken, labelled by where their numbers come from."""

import json
import math
import sys

import pytest

from labs.core.errors import UserError
from labs.core.record import Gate, Record


def make(**changes: object) -> Record:
    settings: dict = {
        "config": {"tp": [1, 2]},
        "samples": [{"kind": "load", "tp": 1, "seconds": 1.5}, {"kind": "load", "tp": 2, "seconds": None}],
        "seconds": 2.0,
        "weights": "tiny",
        "model": "tiny",
        "profile": "cpu",
        "hardware": {"summary": "CPU, 2 cores"},
        "gates": [Gate(name="sum", passed=True, value=0.0, tolerance=1e-6)],
        **changes,
    }
    return Record.new("week5/03_scaling_benchmark", **settings)


@pytest.mark.parametrize("samples", [[], [{"kind": "load", "text": "µs, “quotes”\nand a line"}]])
def test_what_is_saved_is_read_back_equal(tmp_path, samples):
    record = make(samples=samples)
    path = record.save(tmp_path / "deep" / "record.json")
    assert Record.load(path) == record
    assert len(path.read_text().splitlines()) == len(
        json.dumps(record.model_dump() | {"samples": []}, indent=1).splitlines()
    ) + (len(samples) + 1 if samples else 0)


def test_a_number_that_is_none_is_refused_and_the_old_file_stays(tmp_path):
    path = make().save(tmp_path / "record.json")
    before = path.read_text()
    with pytest.raises(ValueError, match="not JSON compliant"):
        make(samples=[{"kind": "load", "seconds": math.nan}]).save(path)
    assert path.read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_an_unknown_field_is_refused_by_name(tmp_path):
    data = make().model_dump(mode="json") | {"result": 1}
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"r\.json is a broken Record: result: Extra inputs"):
        Record.load(tmp_path / "r.json")


def test_values_leave_out_what_was_not_measured():
    record = make()
    assert record.values("load", "seconds") == [1.5]
    assert [row["tp"] for row in record.rows("load", tp=2)] == [2]


def test_a_recorded_copy_says_so_and_keeps_the_rest():
    hardware = {"summary": "CPU, 2 cores", "gpus": [{"name": "NVIDIA H200", "uuid": "GPU-1"}]}
    record = make(model="Qwen/Qwen2.5-7B-Instruct", weights="dummy", hardware=hardware)
    kept = record.as_recorded("tuned settings")
    assert kept.provenance.source == "recorded"
    assert kept.provenance.notes == ["tuned settings"]
    assert kept.samples == record.samples
    assert kept.provenance.hardware["gpus"] == [{"name": "NVIDIA H200"}]
    assert kept.label().startswith("recorded on CPU, 2 cores, Qwen/Qwen2.5-7B-Instruct, dummy weights, ")
    assert make().label().startswith("measured on CPU, 2 cores, tiny model, ")


def test_the_command_is_kept_without_where_its_output_went(monkeypatch):
    argv = [
        "/somewhere/labs/__main__.py",
        "scaling",
        "--out",
        "/tmp/x.json",
        "--tp",
        "1",
        "--out=/tmp/y.json",
    ]
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.delenv("LABS_COMMAND", raising=False)
    assert make().provenance.command == "python -m labs scaling --tp 1"
