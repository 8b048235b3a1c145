"""What the ranks of the launcher's tests run. No torch where torch is not the point."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from labs.cluster.rank import RankContext
from labs.core.errors import UserError
from labs.tests.running import is_alive


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


def lose_rank_1(ctx: RankContext) -> None:
    """Rank 1 prints its pid and waits to be killed; rank 0 notices at once, as gloo does."""
    pid_file = Path(ctx.config["pid_file"])
    if ctx.rank == 1:
        pid_file.write_text(str(os.getpid()))
        print("kill me", flush=True)
        time.sleep(600)
    while not (pid_file.exists() and pid_file.read_text()) or is_alive(int(pid_file.read_text())):
        time.sleep(0.001)
    raise RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer")


def stop_rank_1(ctx: RankContext) -> None:
    """Rank 1 stands still, deaf to everything but SIGCONT and SIGKILL."""
    if ctx.rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)


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


def hang(ctx: RankContext) -> None:
    """Never ends by itself, and has a child that does not either."""
    subprocess.Popen(["sleep", ctx.config["token"]])
    print("hanging", flush=True)
    time.sleep(600)


def hang_with_daemon(ctx: RankContext) -> None:
    """Hangs, deaf to SIGTERM, with a child and a daemon that left its session and its environment."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", ctx.config["token"]])
    daemon = (
        "import os, sys, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "time.sleep(1.2)\n"
        "os.execve('/bin/sleep', ['sleep', sys.argv[1]], {})\n"
    )
    subprocess.Popen([sys.executable, "-c", daemon, ctx.config["token"]]).wait()
    time.sleep(1.6)
    print("hanging", flush=True)
    time.sleep(600)


def chatter(ctx: RankContext) -> None:
    """A progress bar, bytes that are no text, and more output than a pipe holds."""
    sys.stdout.write("\r 10%\r 50%\r100%\n")
    sys.stdout.flush()
    sys.stdout.buffer.write(b"caf\xe9\n")
    for number in range(20_000):
        print(f"line {number}")


def all_reduce(ctx: RankContext) -> float:
    """A real all-reduce over gloo: the sum of rank + 1."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    value = torch.tensor([float(ctx.rank + 1)])
    dist.all_reduce(value)
    return value.item()


def all_reduce_nccl(ctx: RankContext) -> float:
    """The same over NCCL, each rank on its GPU."""
    import torch
    import torch.distributed as dist

    torch.cuda.set_device(ctx.local_rank)
    dist.init_process_group("nccl")
    value = torch.full((1024,), float(ctx.rank + 1), device="cuda")
    dist.all_reduce(value)
    return value.mean().item()


def lost_peer(ctx: RankContext) -> None:
    """Rank 1 fails inside a gloo job; rank 0 is left waiting in the all-reduce."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    if ctx.rank == 1:
        raise ValueError("out of patience")
    dist.all_reduce(torch.ones(1))
