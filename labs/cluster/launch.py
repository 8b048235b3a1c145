"""Start one process a rank, show what they print, and end with results or with one clear error.

    results = launch("package.module:function", world_size=2, config={"size": 8})      # a JSON value a rank

The ranks see torchrun's environment variables, so the same function runs under torchrun and srun
(`labs.cluster.rank`). This process imports no torch. Rank 0 hosts the TCPStore: the launcher reserves its
port by binding it without listening (SO_REUSEADDR lets rank 0 bind it too, and the kernel gives it to
nobody else), and no rank leaves before all have their results, because the store goes with rank 0.

Everything that the ranks leave lies in runs/logs/NAME-TIME-…: rankN.log, rankN.json and config.json.
"""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from labs.cluster.processes import Guard, guarded
from labs.cluster.rank import split_target
from labs.cluster.supervise import OnLine, Rank, Supervisor
from labs.core.errors import UserError
from labs.core.paths import ROOT, runs_dir

_counter = itertools.count()


def print_line(rank: int, line: str) -> None:
    """The default for `on_line`: "[rank] line"."""
    print(f"[{rank}] {line}", flush=True)


def launch(
    target: str,
    world_size: int,
    config: dict[str, Any] | None = None,
    *,
    timeout: float = 600,
    env: Mapping[str, str] | None = None,
    on_line: OnLine | None = print_line,
    name: str = "ranks",
    pin: bool = False,
) -> list[Any]:
    """Call `target(ctx)` in `world_size` processes and return their results by rank.

    `target` is "package.module:function" or "folder/file.py:function"; `config` (JSON) becomes `ctx.config`.
    `env` is laid over the environment. `on_line(rank, line)` gets each line as it is printed (None: only
    the logs do). `pin` keeps each rank on a core of its own where there are enough.

    UserError for a wrong call, also one that a rank finds (it raises UserError). RunFailed names the rank
    that failed first, with its traceback in `details`, or the ranks that did not finish within `timeout`
    seconds, with the stacks of all. However it ends, Ctrl-C included, no process of the run is left.
    """
    target = _check(target, world_size, timeout)
    folder = _folder(name)
    try:
        (folder / "config.json").write_text(json.dumps(config or {}), encoding="utf-8")
    except (TypeError, ValueError) as error:
        raise UserError(f"the config of {target} must be JSON: {error}") from None
    ranks = [Rank(rank, folder) for rank in range(world_size)]
    with _reserved_port() as port, guarded(name) as guard, _leave_pipe() as (stay, release):
        supervisor = Supervisor(ranks, folder, on_line, release)
        try:
            for one in ranks:
                environment = _environment(one.rank, world_size, port, env or {})
                supervisor.watch(
                    one, _spawn(guard, target, one, environment, stay, _core(one, world_size, pin))
                )
            return supervisor.run(timeout)
        finally:
            supervisor.close()


def _spawn(
    guard: Guard, target: str, one: Rank, env: Mapping[str, str | None], stay: int, core: int | None
) -> "subprocess.Popen[bytes]":
    arguments = ["--config", str(one.folder / "config.json"), "--folder", str(one.folder)]
    arguments += ["--parent", str(os.getpid()), "--leave-fd", str(stay)]
    if threading.current_thread() is threading.main_thread():
        arguments.append("--die-with-parent")  # to the kernel, the thread that starts a process is its parent
    if core is not None:
        arguments += ["--core", str(core)]
    return guard.spawn(
        [sys.executable, "-m", "labs.cluster.rank", target, *arguments],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(stay,),
    )


def _core(one: Rank, world_size: int, pin: bool) -> int | None:
    cores = sorted(os.sched_getaffinity(0)) if pin else []
    return cores[one.rank] if world_size <= len(cores) else None


def _check(target: str, world_size: int, timeout: float) -> str:
    """The target as the ranks can import it; UserError for what cannot be launched."""
    where, function = split_target(target)
    if isinstance(world_size, bool) or not isinstance(world_size, int) or world_size < 1:
        raise UserError(f"world_size must be a whole number of ranks, 1 or more; found {world_size!r}")
    if not timeout > 0:
        raise UserError(f"timeout must be more than 0 seconds; found {timeout!r}")
    if not where.endswith(".py"):
        return target
    path = Path(where).resolve()
    if not path.is_file():
        raise UserError(f"no file {where} for the target {target}; give its path from {Path.cwd()}")
    return f"{path}:{function}"


def _environment(rank: int, world_size: int, port: int, env: Mapping[str, str]) -> dict[str, str | None]:
    """torchrun's variables for one rank on this machine, without those of a torchrun around us."""
    outer = dict.fromkeys(key for key in os.environ if key.startswith(("TORCHELASTIC_", "GROUP_", "ROLE_")))
    path = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH", os.environ.get("PYTHONPATH"))]))
    defaults = {"GLOO_SOCKET_IFNAME": "lo"}  # else gloo asks DNS for this machine's name
    if world_size > 1:
        defaults["OMP_NUM_THREADS"] = "1"  # as torchrun does: N ranks share the cores
    return {
        **outer,
        **{key: value for key, value in defaults.items() if key not in os.environ},
        **env,
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


@contextlib.contextmanager
def _leave_pipe() -> Iterator[tuple[int, Callable[[], None]]]:
    """(what the ranks wait on, what lets them go). The ranks also go when this process dies."""
    stay, leave = os.pipe()
    held = [leave]

    def release() -> None:
        while held:
            os.close(held.pop())

    try:
        yield stay, release
    finally:
        release()
        os.close(stay)


@contextlib.contextmanager
def _reserved_port() -> Iterator[int]:
    """A port of the loopback that only sockets with SO_REUSEADDR and this very number can bind."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def _folder(name: str) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = runs_dir() / "logs" / f"{name}-{stamp}-{os.getpid()}-{next(_counter)}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
