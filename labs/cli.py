"""The command line: `python -m labs COMMAND`. Every Makefile target is one line of it or of a tool.

Exit codes: 0 done, 1 the run failed, 2 the call is wrong, 130 interrupted. A mistake in the call is one line
on standard error, never a traceback.
"""

import argparse
import contextlib
import json
import re
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from labs.cluster import hardware
from labs.core import atomic, signals
from labs.core import config as configuration
from labs.core.errors import RunFailed, UserError
from labs.core.record import Record
from labs.experiments import base, registry


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    try:
        with signals.as_interrupts():
            arguments = _parser().parse_args(argv)
            return arguments.call(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunFailed as error:
        if error.details:
            print(error.details.rstrip(), file=sys.stderr)
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        number = interrupt.number if isinstance(interrupt, signals.Signalled) else signal.SIGINT
        what = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
        with contextlib.suppress(OSError):  # after SIGHUP there is no terminal to print to
            print(f"{what}: every process of the run has been ended", file=sys.stderr)
        return 128 + number
    except BrokenPipeError:  # the reader of our output has gone (`… | head`)
        sys.stderr.close()
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m labs", description="The lab package of the distributed-inference workbook."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for experiment in registry.all_experiments():
        _experiment_command(commands, experiment)
    _course_commands(commands)
    return parser


def _experiment_command(commands: Any, experiment: base.Experiment) -> None:
    text = f"{experiment.help} Notebook: {experiment.stem}. Parts: {', '.join(experiment.parts)}."
    parser = commands.add_parser(experiment.command, help=experiment.help, description=text)
    parser.add_argument("--profile", default="auto", help="cpu, gpu or auto (default: what the machine has)")
    parser.add_argument(
        "--model", help="tiny, a local folder, or a Hugging Face name (default: the profile's)"
    )
    parser.add_argument("--tp", type=int, nargs="+", metavar="N", help="tensor-parallel sizes, such as 1 2 4")
    parser.add_argument("--seed", type=int, help="seed of prompts and arrivals")
    parser.add_argument("--part", nargs="+", metavar="PART", help="run only these parts")
    parser.add_argument(
        "--timeout",
        dest="timeout_s",
        type=float,
        metavar="SECONDS",
        help="the longest that one engine may take, or one load run",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the Record (JSON) to FILE")
    experiment.add_arguments(parser)
    parser.set_defaults(call=_run_experiment, experiment=experiment)


def _run_experiment(arguments: argparse.Namespace) -> int:
    experiment: base.Experiment = arguments.experiment
    given = {
        name: getattr(arguments, name)
        for name in experiment.config.model_fields
        if name != "profile" and getattr(arguments, name, None) is not None
    }
    profile = hardware.resolve_profile(arguments.profile)
    settings = configuration.load(experiment.config, experiment.stem, profile, **given)
    if arguments.out:
        _check_writable(arguments.out)
    record = base.run(experiment, settings, arguments.part, say=lambda line: print(line, flush=True))
    if arguments.out:
        record.save(arguments.out)
    print(f"\n{experiment.stem}: {record.label()}")
    print(table(experiment.summary(record)))
    for gate in record.gates:
        print(f"gate passed: {gate.name}" + (f" ({gate.detail})" if gate.detail else ""))
    if arguments.out:
        print(f"record: {arguments.out}")
    return 0


def _course_commands(commands: Any) -> None:
    doctor = commands.add_parser("doctor", help="what this machine has and what it means for the course")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(call=_doctor)

    run = commands.add_parser("run", help="run a week's notebooks and write the report")
    run.add_argument("week", help="such as week5")
    run.add_argument("--profile", default="auto", help="cpu, gpu or auto (default: what the machine has)")
    run.add_argument("--model", help="tiny, a local folder, or a Hugging Face name")
    run.add_argument("--tp", type=int, nargs="+", metavar="N", help="tensor-parallel sizes, such as 1 2 4")
    run.add_argument("--notebook", help="only the notebooks whose name begins so, such as 03")
    run.set_defaults(call=_run_week)

    notebooks = commands.add_parser("notebooks", help="build notebooks/ and solutions/ from weeks/")
    notebooks.add_argument("--check", action="store_true", help="write nothing; fail if a built file differs")
    notebooks.set_defaults(call=_notebooks)

    keep = commands.add_parser("keep", help="keep a Record under weeks/*/recorded/, labelled as recorded")
    keep.add_argument("record", type=Path, help="a Record that an experiment wrote")
    keep.add_argument("--name", required=True, help="what tells it from others, such as 4xh200")
    keep.add_argument("--note", default="", help="one sentence that a reader needs beside the numbers")
    keep.set_defaults(call=_keep)

    bench = commands.add_parser("vllm-json", help="write a Record's load runs as vLLM's own benchmark JSON")
    bench.add_argument("record", type=Path, help="a Record with requests, such as that of `concurrent`")
    bench.add_argument("--out", type=Path, required=True, metavar="DIR", help="one file a load run goes here")
    bench.set_defaults(call=_vllm_json)

    sweep = commands.add_parser("sweep", help="end processes that an earlier run left behind")
    sweep.set_defaults(call=_sweep)


def _doctor(arguments: argparse.Namespace) -> int:
    from labs.cluster import doctor

    return doctor.main(json=arguments.json)


def _run_week(arguments: argparse.Namespace) -> int:
    from labs.course import run_week

    profile = hardware.resolve_profile(arguments.profile)
    return run_week.run_week(
        arguments.week, profile=profile, model=arguments.model, tp=arguments.tp, notebook=arguments.notebook
    )


def _notebooks(arguments: argparse.Namespace) -> int:
    from labs.course import build

    return build.main(check=arguments.check)


def _keep(arguments: argparse.Namespace) -> int:
    from labs.core.paths import ROOT, recorded_dir

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", arguments.name):
        raise UserError(f"--name wants letters, digits, '.', '_' and '-'; found {arguments.name!r}")
    record = Record.load(arguments.record)
    week, _, name = record.experiment.partition("/")
    path = recorded_dir(week) / f"{name}.{arguments.name}.json"
    record.as_recorded(arguments.note).save(path)
    print(path.relative_to(ROOT))
    return 0


def _vllm_json(arguments: argparse.Namespace) -> int:
    from labs.serving.results import vllm_json

    record = Record.load(arguments.record)
    loads = [row for row in record.rows("load") if "run" in row]  # other experiments' `load` is an engine's
    if not loads:
        raise UserError(
            f"{arguments.record} holds no load runs; the Record of `python -m labs concurrent` does"
        )
    date = datetime.fromisoformat(record.created)
    for load in loads:
        found = vllm_json(
            record.rows("request", run=load["run"]),
            model_id=record.provenance.model,
            request_rate=load.get("rate"),
            max_concurrency=load.get("concurrency"),
            label=load["run"],
            date=date,
        )
        path = arguments.out / f"{re.sub('[^A-Za-z0-9.]+', '-', load['run'])}.json"
        atomic.write_text(path, json.dumps(found, allow_nan=False) + "\n")
        print(path)
    return 0


def _sweep(arguments: argparse.Namespace) -> int:
    from labs.cluster import processes

    ended = processes.sweep_leftovers()
    print(f"ended {len(ended)} leftover process(es)" if ended else "no leftover processes")
    return 0


def _check_writable(path: Path) -> None:
    """A run takes minutes: refuse an output path that cannot be written before it begins, not after."""
    try:
        if path.is_dir():
            raise IsADirectoryError
        with tempfile.NamedTemporaryFile(dir=path.parent):  # as the Record is written later; see atomic.py
            pass
    except OSError:
        raise UserError(
            f"cannot write the Record to {path}; give a file in a folder that exists and is writable"
        ) from None


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as an aligned text table; None shows as "not measured"."""
    if not rows:
        return "(nothing measured)"
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns] + [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join(line.rstrip() for line in [lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def _cell(value: Any) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
