"""Run checks one after the other, and say of each how it went."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from qkd_core.errors import LinkDown

Subject = TypeVar("Subject")


class Failed(AssertionError):
    """A promise that is not kept: which, and what was found."""


class NotApplicable(Exception):
    """The check cannot be made with this driver."""


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105  a verdict
    FAIL = "fail"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Row:
    """One check of one subject: ``where`` is a side, or both."""

    where: str
    check: str
    verdict: Verdict
    reason: str = ""

    def as_json(self) -> dict[str, str]:
        told = {"where": self.where, "check": self.check}
        return told | {"verdict": self.verdict.value, "reason": self.reason}

    def as_line(self) -> str:
        because = f": {self.reason}" if self.reason else ""
        said = self.check.replace("_", " ")
        return f"{self.where:6} {self.verdict.value:15} {said}{because}"


def require(kept: bool | np.bool_, reason: str) -> None:
    """Raises Failed with the reason."""
    if not kept:
        raise Failed(reason)


def require_equal(
    found: npt.NDArray[np.generic], other: npt.NDArray[np.generic], what: str
) -> None:
    """Raises Failed unless both arrays hold the same."""
    require(found.shape == other.shape and bool(np.all(found == other)), f"{what} differ")


def require_down(call: Callable[[], object], what: str) -> None:
    """Raises Failed unless the call raises LinkDown."""
    try:
        call()
    except LinkDown:
        return
    raise Failed(f"{what} succeeds")


def rows(
    where: str, checks: Iterable[Callable[[Subject], None]], subject: Subject
) -> Iterator[Row]:
    """No check depends on an earlier one."""
    for check in checks:
        try:
            check(subject)
        except Failed as error:
            yield Row(where, check.__name__, Verdict.FAIL, str(error))
        except NotApplicable as error:
            yield Row(where, check.__name__, Verdict.NOT_APPLICABLE, str(error))
        except Exception as error:  # whatever a driver raises beside LinkDown is its failure too
            yield Row(where, check.__name__, Verdict.FAIL, f"{type(error).__name__}: {error}")
        else:
            yield Row(where, check.__name__, Verdict.PASS)


def counted(found: Sequence[Row]) -> dict[str, int]:
    return {verdict.value: sum(row.verdict is verdict for row in found) for verdict in Verdict}
