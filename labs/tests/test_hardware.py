"""What hardware is here, and what it allows."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from labs.cluster import hardware, memory, nvml
from labs.cluster.hardware import Gpu, Hardware, check_tp, detect, resolve_profile
from labs.core.errors import UserError
from labs.core.paths import ROOT
from labs.tests.running import read_until, start_python


def machine(gpus: int) -> Hardware:
    """A machine with so many GPUs, otherwise this one."""
    return detect().model_copy(
        update={"gpus": [Gpu(index=i, name="NVIDIA H200", memory_bytes=2**37) for i in range(gpus)]}
    )


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COURSE_PROFILE", raising=False)
    found = machine(0)
    monkeypatch.setattr(hardware, "detect", lambda: found)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COURSE_PROFILE", raising=False)
    found = machine(2)
    monkeypatch.setattr(hardware, "detect", lambda: found)


def test_detect_agrees_with_the_system() -> None:
    found = detect()
    assert 1 <= found.cpu_cores <= len(os.sched_getaffinity(0))
    assert 0 < found.memory_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < hardware.free_memory() < found.memory_bytes
    assert "Linux" in found.os
    assert found.cpu_model
    assert bool(found.gpus) == (found.driver is not None and "x " in found.summary)
    assert Hardware.model_validate_json(found.model_dump_json()) == found


def test_reading_the_hardware_imports_neither_torch_nor_vllm() -> None:
    code = (
        "import sys, labs.cluster.launch, labs.cluster.doctor, labs.cluster.memory as memory\n"
        "labs.cluster.doctor.diagnose(); memory.gpu_readings()\n"
        "sys.exit(str([name for name in ('torch', 'vllm', 'transformers') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr == "[]\n"


def test_a_smaller_affinity_counts() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from labs.cluster.hardware import detect; print(detect().cpu_cores)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "1\n"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["NVIDIA H200"] * 4, "4x NVIDIA H200"),
        (["NVIDIA A10G", "NVIDIA L4", "NVIDIA L4"], "1x NVIDIA A10G + 2x NVIDIA L4"),
        ([], "CPU, 1 core, Some CPU"),
    ],
)
def test_summary(names: list[str], expected: str) -> None:
    assert hardware.summarise(names, 1, "Some CPU") == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("0,1,2", [0, 1, 2]),
        ("2,0", [2, 0]),
        ("", []),
        ("-1", []),
        ("1,-1,2", [1]),
        ("0,7,1", [0]),
        ("1,1", [1]),
        ("GPU-bb", [1]),
        ("GPU-", []),  # not unique
        ("GPU-ccc,0", [2, 0]),
    ],
)
def test_cuda_visible_devices_reads_as_cuda_reads_it(wanted: str, expected: list[int]) -> None:
    assert nvml.select(wanted, ["GPU-aaa", "GPU-bbb", "GPU-ccc"]) == expected


class FakeNvml(SimpleNamespace):
    """NVML with two GPUs, NVLink between them, the second without an energy counter."""

    class NVMLError(Exception):
        pass

    NVML_P2P_CAPS_INDEX_NVLINK = 2
    NVML_P2P_STATUS_OK = 0

    def __getattr__(self, name: str) -> Any:
        answers = {
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetName": lambda handle: b"NVIDIA H200",
            "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
            "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=100, used=10 + handle),
            "nvmlSystemGetDriverVersion": lambda: "570.1",
            "nvmlDeviceGetP2PStatus": lambda a, b, index: 0 if index == 2 else 1,
            "nvmlDeviceGetPowerUsage": lambda handle: 70_500,
            "nvmlDeviceGetTotalEnergyConsumption": self._energy,
        }
        return answers[name]

    def _energy(self, handle: int) -> int:
        if handle:
            raise self.NVMLError
        return 9_000


@pytest.fixture
def fake_nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    @contextmanager
    def session() -> Iterator[FakeNvml]:
        yield FakeNvml()

    monkeypatch.setattr(nvml, "session", session)
    hardware._detect.cache_clear()
    yield
    hardware._detect.cache_clear()


@pytest.mark.usefixtures("fake_nvml")
def test_gpus_as_nvml_tells_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = detect()
    assert found.summary == "2x NVIDIA H200"
    assert (found.driver, found.nvlink) == ("570.1", True)
    assert found.gpus[1] == Gpu(index=1, name="NVIDIA H200", memory_bytes=100, uuid="GPU-1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [gpu.index for gpu in detect().gpus] == [1]
    assert detect().nvlink is None  # one GPU has nobody to link to


@pytest.mark.usefixtures("fake_nvml")
def test_a_counter_that_is_not_there_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    first, second = memory.gpu_readings()
    assert (first.used_bytes, first.power_watts, first.energy_joules) == (10, 70.5, 9.0)
    assert (second.used_bytes, second.energy_joules) == (11, None)


@pytest.mark.usefixtures("no_gpu")
def test_profiles_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_profile("auto") == "cpu"
    assert resolve_profile("cpu") == "cpu"
    with pytest.raises(UserError, match="profile 'gpu' needs a GPU; this machine has none; use cpu or auto"):
        resolve_profile("gpu")
    with pytest.raises(UserError, match="unknown profile 'tpu'; use auto, cpu or gpu"):
        resolve_profile("tpu")
    monkeypatch.setenv("COURSE_PROFILE", "tpu")
    assert resolve_profile("cpu") == "cpu"
    with pytest.raises(UserError, match="unknown profile 'tpu' in COURSE_PROFILE"):
        resolve_profile("auto")


@pytest.mark.usefixtures("two_gpus")
def test_profiles_with_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [resolve_profile(name) for name in ("auto", "gpu", "cpu")] == ["gpu", "gpu", "cpu"]
    monkeypatch.setenv("COURSE_PROFILE", "cpu")
    assert resolve_profile("auto") == "cpu"
    monkeypatch.setenv("COURSE_PROFILE", "auto")
    assert resolve_profile("auto") == "gpu"


def test_tp_needs_as_many_gpus() -> None:
    for tp in (1, 2):
        check_tp(tp, machine(2), "gpu")
    with pytest.raises(UserError, match=r"^TP=4 needs 4 GPUs; this machine has 2; use 1 or 2$"):
        check_tp(4, machine(2), "gpu")
    with pytest.raises(UserError, match=r"^TP=2 needs 2 GPUs; this machine has 0; use profile cpu$"):
        check_tp(2, machine(0), "gpu")
    with pytest.raises(UserError, match=r"TP=0 is not a number of ranks; use 1, 2, 4 or 8"):
        check_tp(0, machine(8), "gpu")


def test_tp_on_the_cpu_needs_no_gpu_and_ends_at_8() -> None:
    for tp in (1, 3, 8):
        check_tp(tp, machine(0), "cpu")
    with pytest.raises(UserError, match=r"TP=9 is more than a CPU run takes \(8\)"):
        check_tp(9, machine(0), "cpu")


def test_rss_sees_what_a_process_allocates() -> None:
    code = "import time; print('before'); time.sleep(0.5)\n"
    code += "kept = bytearray(64 * 2**20); print('after'); time.sleep(60)"
    process = start_python(code)
    try:
        read_until(process, "before")
        before = memory.rss(process.pid)
        read_until(process, "after")
        after = memory.rss(process.pid)
        assert before is not None
        assert after is not None
        assert after - before > 60 * 2**20
        assert (memory.tree_rss(os.getpid()) or 0) > after
    finally:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()
    assert memory.rss(process.pid) is None
    assert memory.tree_rss(process.pid) is None


@pytest.mark.gpu
def test_nvml_and_nvidia_smi_see_the_same_gpus() -> None:
    command = ["nvidia-smi", "--query-gpu=uuid,memory.total", "--format=csv,noheader,nounits"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    expected = {uuid: int(size) for uuid, size in (line.split(", ") for line in lines)}
    assert {gpu.uuid: gpu.memory_bytes // 2**20 for gpu in detect().gpus}.items() <= expected.items()
    assert all(reading.power_watts for reading in memory.gpu_readings())
