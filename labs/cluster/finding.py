"""One finding of the doctor."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Status = Literal["ok", "warn", "fail", "absent"]
GIB = 2**30


class Finding(BaseModel):
    """What was found, and what it means for the course.

    `ok`: as it should be. `warn`: the course runs, with the limit that `meaning` names. `fail`: it cannot run
    before that is mended. `absent`: not here, and not needed for everything.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    status: Status
    found: str
    meaning: str


def gib(size: float) -> str:
    """Bytes as "23.5 GiB"."""
    return f"{size / GIB:.1f} GiB"


def names(values: list[int]) -> str:
    """[1, 2, 4] -> "1, 2 and 4"."""
    return " and ".join(
        [", ".join(map(str, values[:-1])), str(values[-1])] if values[1:] else map(str, values)
    )
