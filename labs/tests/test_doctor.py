"""The doctor says what is here and what it means."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from labs.cluster import doctor, doctor_gpu, doctor_machine, doctor_software, hardware
from labs.cluster import guard as side
from labs.cluster.finding import GIB, Finding
from labs.cluster.memory import GpuProcess, GpuReading
from labs.tests.running import wait_until

NAMES = [
    "Python", "System", "CPU cores", "Memory", "/dev/shm", "Disk", "Port 8888", "Port 8000", "Leftovers",
    "GPUs", "Driver", "GPU links", "GPU memory",
    "torch", "vLLM", "transformers", "NCCL", "NVSHMEM", "Notebooks", "Model hub",
]  # fmt: skip


def by_name(name: str) -> Finding:
    return {one.name: one for one in doctor.diagnose()}[name]


def test_every_finding_says_what_it_means() -> None:
    found = doctor.diagnose()
    assert [one.name for one in found] == NAMES
    assert all(one.found and one.meaning.endswith((".", ")")) for one in found)


def test_text_and_json_hold_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    code = doctor.main()
    text = capsys.readouterr().out
    assert doctor.main(json=True) == code
    data = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in data] == NAMES
    assert all(set(one) == {"name", "status", "found", "meaning"} for one in data)
    assert all(one["name"] in text and one["meaning"].split()[0] in text for one in data)
    assert code == any(one["status"] == "fail" for one in data)


def test_the_table_fits_its_width_and_keeps_every_word() -> None:
    long = Finding(name="A", status="warn", found="found " * 30, meaning="meaning " * 40)
    text = doctor.render([long, Finding(name="Longer", status="ok", found="x", meaning="y")], width=70)
    assert max(map(len, text.splitlines())) <= 70
    assert (text.count("found"), text.count("meaning")) == (30, 40)
    assert text.endswith("1 ok, 1 warn, 0 fail, 0 absent")


def test_a_failed_finding_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Finding(name="torch", status="fail", found="not installed", meaning="Install it.")
    monkeypatch.setattr(doctor, "diagnose", lambda: [broken])
    assert doctor.main() == 1


def test_an_occupied_port_is_seen() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", 8000))
        except OSError:  # somebody else has it, which must show just the same
            pass
        else:
            server.listen()
        finding = by_name("Port 8000")
    assert (finding.status, finding.found) == ("warn", "in use")


def test_a_leftover_process_is_seen() -> None:
    gone = subprocess.Popen(["true"])
    start = side.stat(gone.pid)
    gone.wait()
    assert start is not None
    mark = {side.MARKER: f"server-{gone.pid}-{start.start}-0"}
    left = subprocess.Popen(["sleep", "60"], env={**os.environ, **mark})
    try:
        assert wait_until(lambda: f"{left.pid} sleep 60" in by_name("Leftovers").found)
        assert "python -m labs sweep" in by_name("Leftovers").meaning
    finally:
        left.kill()
        left.wait()


def test_a_small_dev_shm_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor_machine._shm(str(tmp_path / "missing")).status == "warn"
    monkeypatch.setattr(doctor_machine, "ENOUGH_SHM", 2**60)
    assert "--shm-size" in doctor_machine._shm(str(tmp_path)).meaning


def test_little_memory_is_a_warning_then_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = []
    for free in (16 * GIB, 4 * GIB, 1 * GIB):
        monkeypatch.setattr(hardware, "free_memory", lambda free=free: free)
        statuses.append(doctor_machine._memory().status)
    assert statuses == ["ok", "warn", "fail"]


@pytest.mark.parametrize(
    ("installed", "built", "driver", "gpus", "status"),
    [
        ("2.13.0+cpu", None, None, False, "ok"),
        ("2.13.0+cpu", None, (13, 0), True, "fail"),  # a GPU that this build cannot use
        ("2.13.0", "13.0", (13, 0), True, "ok"),
        ("2.13.0", "12.8", (13, 0), True, "ok"),
        ("2.13.0", "13.0", (12, 8), True, "fail"),  # the driver is too old
        ("2.9.1", "12.8", (13, 0), True, "warn"),
        ("2.16.0.dev1", "13.0", (13, 0), True, "warn"),
    ],
)
def test_torch(
    installed: str, built: str | None, driver: tuple[int, int] | None, gpus: bool, status: str
) -> None:
    assert doctor_software.judge_torch(installed, built, driver, gpus).status == status


def test_torchs_cuda_is_read_as_torch_says_it() -> None:
    torch_version = pytest.importorskip("torch.version")
    assert doctor_software.torch_cuda() == torch_version.cuda


def test_links() -> None:
    pairs = [(0, 1), (0, 2), (1, 2)]
    full = doctor_gpu.judge_links(dict.fromkeys(pairs, "NVLink"), 18)
    assert (full.status, full.found) == ("ok", "NVLink between all 3 pairs (18 links a GPU)")
    mixed = doctor_gpu.judge_links({(0, 1): "NVLink", (0, 2): "PCIe P2P", (1, 2): "PCIe P2P"}, 4)
    assert mixed.status == "warn"
    assert mixed.found == "NVLink: 0-1; PCIe P2P: 0-2, 1-2 (4 links a GPU)"
    none = doctor_gpu.judge_links(dict.fromkeys(pairs, "no P2P"), None)
    assert none.status == "warn"
    assert "host's memory" in none.meaning
    assert doctor_gpu.judge_links({(0, 1): "unknown"}, None).status == "warn"


def test_who_holds_gpu_memory() -> None:
    def reading(used: int) -> list[GpuReading]:
        return [
            GpuReading(index=0, used_bytes=used, total_bytes=80 * GIB, power_watts=None, energy_joules=None)
        ]

    assert doctor_gpu.judge_holders(reading(GIB // 2), []).status == "ok"
    unseen = doctor_gpu.judge_holders(reading(30 * GIB), [])
    assert unseen.status == "warn"
    assert "not visible" in unseen.found
    holder = GpuProcess(gpu=0, pid=123, used_bytes=30 * GIB, command="python -m vllm")
    assert (
        "pid 123 on GPU 0 (30.0 GiB, python -m vllm)"
        in doctor_gpu.judge_holders(reading(30 * GIB), [holder]).found
    )


def test_the_hub_cache_is_read_and_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "hub" / "models--Qwen--Qwen2.5-7B-Instruct").mkdir(parents=True)
    finding = doctor_software._hub()
    assert "online use allowed; 1 model(s)" in finding.found
    assert "Qwen/Qwen2.5-7B-Instruct" in finding.found
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert doctor_software._hub().found.startswith("offline")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    assert "0 model(s)" in doctor_software._hub().found


def test_a_version_that_drifted_from_the_constraints_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_software, "ROOT", tmp_path)
    (tmp_path / "constraints.txt").write_text(
        "# pins\npydantic-core==1.0\npydantic==1.2 ; python_version > '3'\n"
    )
    assert doctor_software.pinned("pydantic") == "1.2"
    assert doctor_software.pinned("torch") is None
    assert "tested with 1.2" in doctor_software._drift("pydantic", "2.0")
    assert doctor_software._drift("pydantic", "1.2+cpu") == ""


@pytest.mark.gpu2
def test_links_between_real_gpus() -> None:
    finding = by_name("GPU links")
    assert finding.status in ("ok", "warn")
    assert "pairs" in finding.found or ":" in finding.found
    assert by_name("Driver").status == "ok"
