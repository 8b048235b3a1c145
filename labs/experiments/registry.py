"""Which experiments there are. A module is imported only when its experiment is asked for."""

from importlib import import_module

from labs.core.errors import UserError
from labs.experiments.base import Experiment

MODULES = {
    "week5/01_tensor_parallel_setup": "labs.experiments.week5.tensor_parallel_setup",
    "week5/02_concurrent_requests": "labs.experiments.week5.concurrent_requests",
    "week5/03_scaling_benchmark": "labs.experiments.week5.scaling_benchmark",
}


def find(stem: str) -> Experiment:
    """The experiment of a notebook ("week5/03_scaling_benchmark"); UserError for an unknown one."""
    if stem not in MODULES:
        raise UserError(f"unknown experiment {stem!r}; there are {', '.join(MODULES)}")
    return import_module(MODULES[stem]).EXPERIMENT


def all_experiments() -> list[Experiment]:
    """Every experiment, in the order of the course."""
    return [find(stem) for stem in MODULES]
