"""What the ranks of the launcher's tests run. No torch where torch is not the point."""

import os
import signal
import subprocess
import sys
import time
from typing import Any

from labs.cluster.rank import RankContext
from labs.core.errors import UserError


def echo(ctx: RankContext) -> dict[str, Any]:
    """Prints a line and a partial one; returns what it was given."""
    print(f"hello from {ctx.rank}", flush=True)
    print("no newline at the end", end="", flush=True)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    return {
        "rank": ctx.rank,
        "world_size": ctx.world_size,
        "config": ctx.config,
        "env": {name: os.environ[name] for name in names},
        "extra": os.environ.get("LABS_TEST_EXTRA"),
        "cores": sorted(os.sched_getaffinity(0)),
        "pid": os.getpid(),
        "torch": "torch" in sys.modules,
    }


def fail_one(ctx: RankContext) -> None:
    """Rank 1 raises; the others then raise what a lost connection raises."""
    if ctx.rank == 1:
        print("about to fail", flush=True)
        raise ValueError("shard 1 has the wrong shape")
    time.sleep(0.3)
    raise ConnectionResetError("Connection reset by peer")


def die(ctx: RankContext) -> None:
    """Rank 1 gets the configured signal; the others notice a moment later, as gloo does."""
    if ctx.rank == 1:
        os.kill(os.getpid(), ctx.config["signal"])
    time.sleep(0.2)
    raise RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer")


def leave_without_result(ctx: RankContext) -> None:
    """Rank 0 ends the process with exit code 0 behind everybody's back."""
    if ctx.rank == 0:
        os._exit(0)
    time.sleep(30)


def unserialisable(ctx: RankContext) -> Any:
    """A result that JSON cannot hold."""
    return {1, 2}


def wrong_call(ctx: RankContext) -> None:
    """A rank finds that the call was wrong."""
    raise UserError("TP=3 does not divide 8 attention heads; use 1, 2, 4 or 8")


def stuck_in_rank_1(ctx: RankContext) -> str:
    """Rank 0 finishes, rank 1 never does."""
    if ctx.rank == 1:
        _wait_for_a_message_that_never_comes()
    return "done"


def _wait_for_a_message_that_never_comes() -> None:
    time.sleep(600)


def hang_with_daemon(ctx: RankContext) -> None:
    """Hangs, deaf to SIGTERM, with a child and a daemon that left its session and its environment."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "611"])
    daemon = (
        "import os, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "time.sleep(1.2)\n"
        "os.execve('/bin/sleep', ['sleep', '612'], {})\n"
    )
    subprocess.Popen([sys.executable, "-c", daemon]).wait()
    time.sleep(1.6)
    print("hanging", flush=True)
    time.sleep(600)


def all_reduce(ctx: RankContext) -> float:
    """A real all-reduce over gloo: the sum of rank + 1."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    value = torch.tensor([float(ctx.rank + 1)])
    dist.all_reduce(value)
    return value.item()


def lost_peer(ctx: RankContext) -> None:
    """Rank 1 fails inside a gloo job; rank 0 is left waiting in the all-reduce."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    if ctx.rank == 1:
        raise ValueError("out of patience")
    dist.all_reduce(torch.ones(1))
