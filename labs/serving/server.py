"""A real vLLM server as a context manager: started, ready, measured against, and always ended.

    with VllmServer(config) as server:
        run_load(server.url, server.model, requests, ...)

It is vLLM's OpenAI-compatible server, bound to the loopback, in processes of its own: the API server, the
engine core, and one worker a rank (`mp` executor). Its output is kept in a log under runs/. The block's end,
an error, Ctrl-C or the death of this process ends all of them.

A model without a tokenizer (dummy weights, or `has_tokenizer=False`) is served too: send a list of token ids
as `prompt`, and with `"return_token_ids": true` every chunk of the stream carries its `token_ids`.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Literal

from labs.cluster.ports import free_port, port_is_free
from labs.cluster.processes import guarded
from labs.core.errors import RunFailed, UserError
from labs.core.paths import runs_dir
from labs.serving import server_log
from labs.serving.engine import EngineConfig, check_model, engine_arguments, engine_env

POLL_SECONDS = 0.1
END_SECONDS = 5.0  # vLLM's server ends by itself so soon after its engine has died
HOST = "127.0.0.1"
Role = Literal["server", "engine", "worker"]


class VllmServer:
    """See the module. `port=0` takes a free one; `name` is what the model is served as (its folder's name).

    UserError: the port is taken, or there is no such model. RunFailed: the server did not become ready within
    `timeout` seconds, or died, inside the block too; the message has the reason that its log gives, `details`
    the log's end.
    """

    def __init__(
        self,
        config: EngineConfig,
        *,
        port: int = 0,
        name: str | None = None,
        log: Path | None = None,
        timeout: float = 600,
        say: Callable[[str], None] = print,
    ) -> None:
        self.config = config
        self.model = name or Path(config.model_path).name
        self.port = port
        self.log_path = log or _log_path()
        self.ready_seconds: float | None = None
        self._timeout = timeout
        self._say = say
        self._killed = False
        self._stack = contextlib.ExitStack()

    @property
    def url(self) -> str:
        """Where it listens, without a path: "http://127.0.0.1:PORT"."""
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> "VllmServer":
        check_model(self.config)
        if self.port and not port_is_free(self.port):
            raise self._occupied()
        self.port = self.port or free_port()
        with contextlib.ExitStack() as stack:
            self._guard = stack.enter_context(guarded("vllm-server"))
            start = time.perf_counter()
            self._process = self._guard.spawn(
                server_command(self.config, self.port, self.model),
                env=server_env(self.config),
                log=self.log_path,
            )
            self._say(f"vLLM server: {self.model} at TP={self.config.tp}, port {self.port}, starting")
            self._wait_ready(start + self._timeout)
            self.ready_seconds = time.perf_counter() - start
            self._say(f"vLLM server: ready after {self.ready_seconds:.1f} s")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        broken = isinstance(error, (RunFailed, OSError)) and not self._killed
        if broken and not self._ready():  # on its way out: its end says more than a connection that broke
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
        failure = None if self._killed else self.failure()
        self._stack.close()
        if failure and (error is None or isinstance(error, (RunFailed, OSError))):
            raise failure from error

    def failure(self) -> RunFailed | None:
        """Why the server is no longer there, or None while it runs."""
        code = self._process.poll()
        return None if code is None else self._failed(f"the vLLM server died ({_exit(code)})")

    def check(self) -> None:
        """Raise RunFailed with the reason if the server is gone."""
        if failure := self.failure():
            raise failure

    def metrics(self) -> dict[str, float]:
        """vLLM's Prometheus metrics now, by sample name.

        The labels follow the name as Prometheus writes them, without those that are the same everywhere
        (engine, model): `vllm:num_requests_running`,
        `vllm:request_success_total{finished_reason="length"}`. RunFailed if the server does not answer.
        """
        try:
            return parse_metrics(_get(f"{self.url}/metrics", timeout=10))
        except OSError as error:
            raise RunFailed(f"the vLLM server does not answer: {error}") from None

    def pids(self, role: Role | None = None) -> list[int]:
        """The live processes of the run, or those of one role. At TP=1 the engine has no worker beside it."""
        return self._guard.pids() if role is None else self._tree()[role]

    def kill(self, role: Role = "engine") -> None:
        """SIGKILL the processes of one role, for a failure drill. The block's end then reports no failure."""
        self._killed = True
        for pid in self._tree()[role]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _tree(self) -> dict[Role, list[int]]:
        server = [self._process.pid] if self._process.poll() is None else []
        engine = _children(server)
        return {"server": server, "engine": engine, "worker": _children(engine)}

    def _wait_ready(self, deadline: float) -> None:
        while not self._ready():
            code = self._process.poll()
            if code is not None:
                said = self._failed(f"the vLLM server did not start ({_exit(code)})")
                if "Address already in use" in str(said):
                    raise self._occupied()
                raise said
            if time.perf_counter() > deadline:
                raise self._failed(f"the vLLM server was not ready within {self._timeout:g} s")
            time.sleep(POLL_SECONDS)

    def _ready(self) -> bool:
        try:
            _get(f"{self.url}/health", timeout=2)
            models = json.loads(_get(f"{self.url}/v1/models", timeout=2))
        except (OSError, ValueError):
            return False
        return self.model in [entry.get("id") for entry in models.get("data", [])]

    def _occupied(self) -> UserError:
        return UserError(f"port {self.port} is in use; stop what listens there or choose another port")

    def _failed(self, what: str) -> RunFailed:
        with contextlib.suppress(OSError):
            log = self.log_path.read_text(encoding="utf-8", errors="replace")
            why = server_log.reason(log)
            return RunFailed(f"{what}: {why}" if why else what, f"{self.log_path}:\n{server_log.tail(log)}")
        return RunFailed(what, f"its log {self.log_path} cannot be read")


def server_command(config: EngineConfig, port: int, name: str) -> list[str]:
    """The command line. `vllm serve` is not used: in the CPU build that script does not start."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--host", HOST, "--port", str(port), "--served-model-name", name]
    command.append("--disable-uvicorn-access-log")
    for key, value in engine_arguments(config).items():
        flag = key.replace("_", "-")
        if isinstance(value, bool):
            command.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            command += [f"--{flag}", json.dumps(value) if isinstance(value, (dict, list)) else str(value)]
    return command


def server_env(config: EngineConfig) -> dict[str, str | None]:
    """The engine's environment, changed for a server that has processes of its own."""
    env: dict[str, str | None] = {**engine_env(config)}
    if config.profile == "gpu" or config.tp > 1:
        env["VLLM_ENABLE_V1_MULTIPROCESSING"] = None
    # else: on a CPU at TP=1 vLLM would start a worker beside the engine core, which imports everything once
    # more (7 s on two cores). With "0" the engine core runs the model itself and stays a process of its own.
    if config.profile == "cpu":
        cores = sorted(os.sched_getaffinity(0))
        ranks = [str(cores[rank % len(cores)]) for rank in range(config.tp)]
        env["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(ranks)
    return env


def parse_metrics(text: str) -> dict[str, float]:
    """Prometheus' text format as {sample: value}; see `VllmServer.metrics`."""
    from prometheus_client.parser import text_string_to_metric_families

    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k not in ("engine", "model_name")}
            inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
            values[f"{sample.name}{{{inside}}}" if inside else sample.name] = sample.value
    return values


def _get(url: str, timeout: float) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the loopback needs no proxy
    with opener.open(url, timeout=timeout) as answer:
        return answer.read().decode()


def _children(parents: list[int]) -> list[int]:
    """Children of these processes but for Python's resource trackers, which vLLM starts beside them."""
    import psutil

    found = []
    for pid in parents:
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(pid).children():
                if "resource_tracker" not in " ".join(child.cmdline()):
                    found.append(child.pid)
    return found


def _exit(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _log_path() -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    return runs_dir() / "logs" / f"server-{stamp}-{os.getpid()}.log"
