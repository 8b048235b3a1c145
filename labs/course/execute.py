"""Runs one notebook through papermill, in a process of its own: `python -m labs.course.execute JOB`.

JOB is a JSON file: input, output (.ipynb), parameters, cell_seconds (limit of a cell that names none). Lines
on standard output that begin with `EVENT ` are for the parent: {"cells": 20} at the start, {"done": 3} after
each cell, and at the end {"error": null} or {"error": "cell 7: ValueError: …", "details": "…"}.
"""

import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

EVENT = "EVENT "


def main(path: str) -> int:
    """Run the job; 0 if every cell ran, 1 if one failed. The output is written either way."""
    warnings.filterwarnings("ignore")  # of papermill and nbclient; what the kernel says stays in the log
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.exceptions import PapermillExecutionError

    class Engine(NBClientEngine):
        """papermill's own engine, which also says how far it is."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            complete = nb_man.cell_complete

            def cell_complete(cell: Any, cell_index: int | None = None, **more: Any) -> None:
                complete(cell, cell_index=cell_index, **more)
                send(done=(cell_index or 0) + 1)

            send(cells=len(nb_man.nb.cells))
            nb_man.cell_complete = cell_complete
            return super().execute_managed_notebook(nb_man, kernel_name, **options)

    papermill_engines.register("labs", Engine)
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    error, details = None, ""
    try:
        papermill.execute_notebook(
            job["input"],
            job["output"],
            parameters=known(job["input"], job["parameters"]),
            engine_name="labs",
            kernel_name="python3",
            progress_bar=False,
            store_widget_state=False,
            interrupt_on_timeout=True,
            timeout_func=lambda cell: limit(cell, job["cell_seconds"]),
            cwd=str(Path(job["input"]).parent),
        )
    except PapermillExecutionError as failed:
        error = f"cell {failed.cell_index + 1}: {failed.ename}: {failed.evalue}"
        if failed.ename in ("Interrupted", "KeyboardInterrupt"):  # nothing else interrupts this kernel
            error = f"cell {failed.cell_index + 1} was interrupted at its time limit"
        details = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(failed.traceback))
    except DeadKernelError:
        error = "the notebook's kernel died"
    except CellTimeoutError as late:
        error = str(late).strip().splitlines()[0]
    send(error=error, details=details)
    return 1 if error else 0


def known(notebook: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters that the notebook's parameters cell names; papermill would inject the others as well."""
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    lines = [
        line
        for cell in cells
        if "parameters" in cell["metadata"].get("tags", [])
        for line in "".join(cell["source"]).splitlines()
    ]
    names = {line.partition("=")[0].strip() for line in lines}
    return {name: value for name, value in parameters.items() if name in names}


def limit(cell: Any, otherwise: float) -> int:
    """Seconds that a cell may take: its own setting, or the job's."""
    return int(cell.metadata.get("labs", {}).get("timeout", otherwise))


def send(**event: Any) -> None:
    """One line for the parent."""
    print(EVENT + json.dumps(event), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
