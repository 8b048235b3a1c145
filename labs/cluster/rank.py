"""What runs in each rank: sets the process up, calls the target and reports how it went.

`labs.cluster.launch` starts it, and so do torchrun and srun, with the same target:

    torchrun --nproc_per_node=2 -m labs.cluster.rank package.module:function --config file.json --out out.json

The target is called as `function(ctx)` with a RankContext and returns something that JSON can hold. Under
torchrun each rank prints its result, or rank 0 gathers all of them over the store into `--out` (a list by
rank). SIGUSR1 prints the stack of every thread.
"""

import argparse
import contextlib
import ctypes
import faulthandler
import importlib
import importlib.util
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from labs.core import atomic
from labs.core.errors import RunFailed, UserError

PARENT_GONE = 120  # exit code
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class RankContext:
    """Which rank this is, of how many, and the settings that the launcher was given."""

    rank: int
    world_size: int
    local_rank: int = 0  # on this machine; the GPU to use
    config: dict[str, Any] = field(default_factory=dict)


def split_target(target: str) -> tuple[str, str]:
    """`package.module:function` or `folder/file.py:function` -> (module or file, function), or UserError."""
    where, colon, function = target.rpartition(":")
    if not (colon and where and function.isidentifier()):
        raise UserError(f"{target!r} is not a target; write package.module:function or file.py:function")
    if where == "__main__":
        raise UserError(
            f"{target!r} lives in the notebook, where another process cannot import it; put it in a file "
            "(%%writefile ranks.py) and write ranks.py:" + function
        )
    return where, function


def resolve_target(target: str) -> Callable[[RankContext], Any]:
    """Import the target. UserError if it is not there; an error inside its module comes through as it is."""
    where, name = split_target(target)
    module = _from_file(Path(where)) if where.endswith(".py") else _from_package(where, target)
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"{where} has no function {name!r} (target {target})")
    return function


def _from_package(where: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name and (where == error.name or where.startswith(error.name + ".")):
            raise UserError(f"no module {error.name!r} for the target {target}") from None
        raise


def _from_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UserError(f"no file {path} for the target")
    sys.path.insert(0, str(path.resolve().parent))  # so that it may import its neighbours
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def context(config: dict[str, Any]) -> RankContext:
    """The RankContext of this process, from torchrun's variables, Slurm's, or alone: rank 0 of 1."""

    def number(name: str, slurm: str, default: int) -> int:
        return int(os.environ.get(name) or os.environ.get(slurm) or default)

    found = RankContext(
        rank=number("RANK", "SLURM_PROCID", 0),
        world_size=number("WORLD_SIZE", "SLURM_NTASKS", 1),
        local_rank=number("LOCAL_RANK", "SLURM_LOCALID", 0),
        config=config,
    )
    for name, value in (
        ("RANK", found.rank),
        ("WORLD_SIZE", found.world_size),
        ("LOCAL_RANK", found.local_rank),
    ):
        os.environ.setdefault(name, str(value))
    if found.world_size == 1 and "MASTER_ADDR" not in os.environ:
        os.environ.setdefault("LOCAL_WORLD_SIZE", "1")
        from labs.cluster.ports import free_port

        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    return found


def main(argv: list[str] | None = None) -> int:
    """Run one rank. Exit code 0: there is a result; 1: the target failed; 2: the call was wrong."""
    parser = argparse.ArgumentParser(prog="python -m labs.cluster.rank", description=__doc__.split("\n")[0])
    parser.add_argument("target", help="package.module:function or folder/file.py:function")
    parser.add_argument("--config", type=Path, help="JSON file with the settings (ctx.config)")
    parser.add_argument("--out", type=Path, help="JSON file that rank 0 writes: the results of all ranks")
    # The launcher's own: where to report, who must be alive, when to leave, which core to stay on.
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--die-with-parent", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--leave-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    _set_up(args)
    try:
        ctx = context(json.loads(args.config.read_text(encoding="utf-8")) if args.config else {})
        result = resolve_target(args.target)(ctx)
        text = _as_json(result, args.target)
        if args.folder:
            _report(args.folder, ctx.rank, {"ok": True, "result": json.loads(text)})
            _wait_for_leave(args.leave_fd)
        elif args.out:
            _gather(ctx, text, args.out)
        else:
            print(f"rank {ctx.rank}: {text}", flush=True)
    except BaseException as error:
        return _failed(error, args.folder)
    _close_process_group()
    return 0


def _set_up(args: argparse.Namespace) -> None:
    if args.die_with_parent:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if args.parent is not None and os.getppid() != args.parent:  # it died before prctl
        os._exit(PARENT_GONE)
    faulthandler.enable()
    stacks = sys.stderr
    if args.folder:
        stacks = open(stack_file(args.folder, int(os.environ["RANK"])), "w")  # noqa: SIM115  for good
    faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})


def stack_file(folder: Path, rank: int) -> Path:
    """Where a rank's stacks go. The file is there once the rank listens to SIGUSR1."""
    return folder / f"rank{rank}.stack"


def outcome_file(folder: Path, rank: int) -> Path:
    """Where a rank reports its result or its error."""
    return folder / f"rank{rank}.json"


def _as_json(result: Any, target: str) -> str:
    try:
        return json.dumps(result)
    except (TypeError, ValueError) as error:
        raise TypeError(f"the result of {target} is not JSON: {error}") from None


def _report(folder: Path, rank: int, outcome: dict[str, Any]) -> None:
    atomic.write_text(outcome_file(folder, rank), json.dumps(outcome))


def _failed(error: BaseException, folder: Path | None) -> int:
    """Report the error with the time at which it happened: the launcher names the rank that failed first."""
    when = time.time()
    kind = "user" if isinstance(error, UserError) else "error"
    frames = error.__traceback__.tb_next if error.__traceback__ else None  # without this module's own frame
    trace = "".join(traceback.format_exception(type(error), error, frames))
    if isinstance(error, RunFailed) and error.details:
        trace += error.details + "\n"
    if folder:
        fault = {"kind": kind, "type": type(error).__name__, "message": str(error), "traceback": trace}
        _report(folder, int(os.environ["RANK"]), {"ok": False, "error": fault, "time": when})
    else:
        print(error if kind == "user" else trace, file=sys.stderr)
        _tell_torchrun(str(error), trace, when)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    # Not a normal exit: with a collective in flight, the libraries' destructors wait for ranks that are gone.
    os._exit(2 if kind == "user" else 1)


def _tell_torchrun(message: str, trace: str, when: float) -> None:
    """Leave the traceback where torchrun's report looks for it (format: torch.distributed.elastic)."""
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        extra = {"py_callstack": trace, "timestamp": str(int(when))}
        atomic.write_text(
            path, json.dumps({"message": {"message": f"{message}\n{trace}", "extraInfo": extra}})
        )


def _wait_for_leave(fd: int | None) -> None:
    """Stay until every rank has its result: rank 0 hosts the store through which the others meet."""
    if fd is not None:
        os.read(fd, 1)  # returns when the launcher closes its end


def _gather(ctx: RankContext, text: str, out: Path) -> None:
    """Bring the results of all ranks to rank 0 over the store of MASTER_ADDR and write them to `out`."""
    results = [text]
    if ctx.world_size > 1:
        import torch.distributed as dist

        store, _, _ = next(iter(dist.rendezvous("env://")))
        key = f"labs/result/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        store.set(f"{key}/{ctx.rank}", text)
        if ctx.rank == 0:
            results = [store.get(f"{key}/{rank}").decode() for rank in range(ctx.world_size)]
            store.set(f"{key}/taken", "1")
        store.wait([f"{key}/taken"])
    if ctx.rank == 0:
        atomic.write_text(out, json.dumps([json.loads(one) for one in results], indent=1) + "\n")


def _close_process_group() -> None:
    dist = sys.modules.get("torch.distributed")
    if dist is not None and dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    from labs.cluster import rank as this_module  # one copy: targets import RankContext from it

    sys.exit(this_module.main())
