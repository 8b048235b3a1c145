"""The vLLM server: it serves token ids, it says why it died, and it leaves no process behind."""

import json
import os
import shutil
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from labs.core.errors import RunFailed, UserError
from labs.core.paths import TINY_MODEL
from labs.serving.engine import EngineConfig
from labs.serving.server import Role, VllmServer, parse_metrics, server_command, server_env

TIMEOUT = 240


def tiny(**settings: Any) -> EngineConfig:
    return EngineConfig(model_path=str(TINY_MODEL), weights="tiny", max_model_len=512, **settings)


@pytest.fixture(scope="module")
def shape(tmp_path_factory: pytest.TempPathFactory) -> EngineConfig:
    """The tiny model's shape with dummy weights: a folder with config.json and nothing else."""
    folder = tmp_path_factory.mktemp("models") / "shape-only"
    folder.mkdir()
    shutil.copy(TINY_MODEL / "config.json", folder)
    return EngineConfig(model_path=str(folder), weights="dummy", has_tokenizer=False, max_model_len=512)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    """One server at TP=2 for the tests below; the last of them kills a worker of it."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    with VllmServer(tiny(tp=2), log=log, timeout=TIMEOUT) as running:
        pids = running.pids()
        yield running
        running.kill("server")  # the last test has left it dead: the end then reports nothing
    assert gone(pids)


def complete(server: VllmServer, prompt: list[int], tokens: int) -> list[dict[str, Any]]:
    """The chunks of one streamed completion."""
    body = {
        "model": server.model,
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "return_token_ids": True,
    }
    request = urllib.request.Request(
        f"{server.url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        lines = [line.decode().strip() for line in answer if line.startswith(b"data: ")]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def token_ids(chunks: list[dict[str, Any]]) -> list[int]:
    return [token for chunk in chunks for choice in chunk["choices"] for token in choice["token_ids"]]


def wait_dead(server: VllmServer, seconds: float = 60) -> RunFailed:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if failure := server.failure():
            return failure
        time.sleep(0.1)
    raise AssertionError(f"the server still runs {seconds} s after the kill: {server.pids()}")


def gone(pids: list[int]) -> bool:
    return all(not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie" for pid in pids)


@pytest.mark.vllm
def test_it_streams_token_ids(server: VllmServer) -> None:
    chunks = complete(server, [5, 6, 7], 12)
    assert len(token_ids(chunks)) == 12
    assert len(chunks) == 12  # one token a chunk: every token has its own arrival time
    assert chunks[0]["choices"][0]["prompt_token_ids"] == [5, 6, 7]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert token_ids(complete(server, [5, 6, 7], 12)) == token_ids(chunks)


@pytest.mark.vllm
def test_it_counts_what_it_served(server: VllmServer) -> None:
    before = server.metrics()["vllm:generation_tokens_total"]
    complete(server, [5, 6, 7], 9)
    after = server.metrics()
    assert after["vllm:generation_tokens_total"] - before == 9
    assert after["vllm:num_requests_running"] == 0
    assert after['vllm:request_success_total{finished_reason="length"}'] > 0


@pytest.mark.vllm
def test_it_runs_a_process_a_rank(server: VllmServer) -> None:
    assert server.ready_seconds is not None
    assert server.model == "tiny"
    assert [len(server.pids(role)) for role in ("server", "engine", "worker")] == [1, 1, 2]
    assert set(server.pids("worker")) < set(server.pids())
    assert server.failure() is None


@pytest.mark.vllm
def test_an_occupied_port_is_named(server: VllmServer) -> None:
    with (
        pytest.raises(UserError, match=f"^port {server.port} is in use; stop what"),
        VllmServer(tiny(), port=server.port),
    ):
        pass


@pytest.mark.vllm
def test_the_death_of_a_worker_is_said(server: VllmServer) -> None:
    os.kill(server.pids("worker")[1], 9)
    failure = wait_dead(server)
    assert "died unexpectedly (exit code: -9)" in str(failure)
    assert str(server.log_path) in failure.details
    with pytest.raises(RunFailed, match="the vLLM server died"):
        server.check()


@pytest.mark.vllm
def test_dummy_weights_are_served_without_a_tokenizer_and_a_killed_engine_ends_the_block(
    shape: EngineConfig, tmp_path: Path
) -> None:
    pids: list[int] = []

    def session() -> None:
        with VllmServer(shape, name="shape", log=tmp_path / "log", timeout=TIMEOUT) as running:
            assert running.model == "shape"
            assert len(token_ids(complete(running, [1, 2, 3], 5))) == 5
            assert running.pids("worker") == []  # at TP=1 the engine runs the model itself
            pids.extend(running.pids())
            os.kill(running.pids("engine")[0], 9)
            wait_dead(running)

    with pytest.raises(RunFailed, match=r"^the vLLM server died .*engine core"):
        session()
    assert len(pids) >= 2
    assert gone(pids)


@pytest.mark.vllm
@pytest.mark.parametrize("role", ["server", "engine"])
def test_a_kill_for_a_drill_leaves_nothing_and_is_no_failure(role: Role, tmp_path: Path) -> None:
    seen: list[int] = []

    def kill(line: str) -> None:
        if "starting" in line:
            while len(seen) < 2:  # the API server and what it starts
                time.sleep(0.2)
                seen[:] = starting.pids("server") + starting.pids("engine")
            starting.kill(role)

    starting = VllmServer(tiny(), log=tmp_path / "log", say=kill, timeout=TIMEOUT)
    with pytest.raises(RunFailed, match="the vLLM server did not start"), starting:
        pass
    assert gone(seen)


@pytest.mark.vllm
def test_the_reason_of_a_failed_start_comes_from_the_engine(tmp_path: Path) -> None:
    config = tiny(extra={"num_gpu_blocks_override": 1})
    with (
        pytest.raises(RunFailed, match=r"did not start \(exit code 1\): ValueError: .*memory") as caught,
        VllmServer(config, log=tmp_path / "log", timeout=TIMEOUT),
    ):
        pass
    assert "Engine core initialization failed" not in str(caught.value)
    assert str(tmp_path / "log") in caught.value.details


@pytest.mark.vllm
def test_a_server_that_is_too_slow_is_ended(tmp_path: Path) -> None:
    pids: list[int] = []
    starting = VllmServer(
        tiny(), log=tmp_path / "log", timeout=1, say=lambda line: pids.extend(starting.pids("server"))
    )
    with pytest.raises(RunFailed, match="not ready within 1 s"), starting:
        pass
    assert pids
    assert gone(pids)


# Answers until it is asked for its metrics; then it hangs up and is gone half a second later, as vLLM's
# server is when its engine has died.
DYING = """
import http.server, json, os, sys, threading, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/metrics":
            self.server.socket.close()
            time.sleep(0.5)
            print("ValueError: the cause", flush=True)
            os._exit(3)
        body = json.dumps({"data": [{"id": "tiny"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.mark.parametrize("wait", [0.0, 1.0])
def test_a_server_on_its_way_out_gives_its_reason_not_a_broken_connection(
    wait: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "labs.serving.server.server_command",
        lambda config, port, name: [sys.executable, "-c", DYING, str(port)],
    )

    def session() -> None:
        with VllmServer(tiny(), log=tmp_path / "log", timeout=30) as server:
            with pytest.raises(OSError, match="timed out"):
                urllib.request.urlopen(f"{server.url}/metrics", timeout=0.1)
            time.sleep(wait)
            server.metrics()

    with pytest.raises(RunFailed, match=r"^the vLLM server died \(exit code 3\): ValueError: the cause$"):
        session()


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    for path, found in ((tmp_path / "none", "does not exist"), (tmp_path, "has no config.json")):
        with (
            pytest.raises(UserError, match=rf"^the model folder {path} {found}; give a folder"),
            VllmServer(EngineConfig(model_path=str(path))),
        ):
            pass


def test_a_port_of_somebody_else_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"^port {port} is in use"), VllmServer(tiny(), port=port):
            pass


def test_settings_become_flags() -> None:
    config = tiny(tp=2, scheduling_policy="priority", extra={"override_generation_config": {"top_k": 1}})
    command = server_command(config, 1234, "name")
    text = " ".join(command)
    assert "--tensor-parallel-size 2" in text
    assert "--enforce-eager" in command
    assert "--no-enable-prefix-caching" in command
    assert "--no-skip-tokenizer-init" in command
    assert "--scheduling-policy priority" in text
    assert "--host 127.0.0.1 --port 1234 --served-model-name name" in text
    assert command[command.index("--override-generation-config") + 1] == '{"top_k": 1}'
    assert "--gpu-memory-utilization" not in command


def test_each_rank_on_a_cpu_is_bound_to_a_core() -> None:
    cores = sorted(os.sched_getaffinity(0))
    env = server_env(tiny(tp=2))
    assert env["VLLM_CPU_OMP_THREADS_BIND"] == f"{cores[0]}|{cores[1 % len(cores)]}"
    assert env["VLLM_ENABLE_V1_MULTIPROCESSING"] is None
    assert server_env(tiny())["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    gpu = server_env(EngineConfig(model_path="x/y", profile="gpu"))
    assert gpu["VLLM_ENABLE_V1_MULTIPROCESSING"] is None
    assert "VLLM_CPU_OMP_THREADS_BIND" not in gpu


def test_metrics_are_named_as_prometheus_writes_them() -> None:
    text = (
        "# TYPE vllm:num_requests_running gauge\n"
        'vllm:num_requests_running{engine="0",model_name="tiny"} 3.0\n'
        "# TYPE vllm:request_success counter\n"
        'vllm:request_success_total{engine="0",finished_reason="stop",model_name="tiny"} 2.0\n'
    )
    assert parse_metrics(text) == {
        "vllm:num_requests_running": 3.0,
        'vllm:request_success_total{finished_reason="stop"}': 2.0,
    }
