"""What the suite says: one row a check, by clause.

The standard is silent on some points on which every KME has to do something. Keyferry's decision on
each is a check too, and marked so: a KME that decided otherwise differs, which is no failure.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from keyferry.conformance.caller import Caller, Failed, NoAnswer, NotApplicable

OURS = "Keyferry's decision"


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105  a verdict
    FAIL = "fail"
    DIFFERS = "differs"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Parties:
    """SAE ``a`` at the first KME; ``b`` and ``c`` at the other one.

    draw_dry  all that the first KME has stored may be used up
    """

    a: Caller
    b: Caller
    c: Caller
    draw_dry: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that the standard says; ``run`` raises Failed or NotApplicable.

    ours  the standard is silent: it is Keyferry's decision
    """

    clause: str
    says: str
    run: Callable[[Parties], None]
    ours: bool = False

    @property
    def name(self) -> str:
        return self.run.__name__


@dataclass(frozen=True, slots=True)
class Row:
    check: Check
    verdict: Verdict
    reason: str = ""

    def as_json(self) -> dict[str, str]:
        return {
            "clause": self.check.clause,
            "check": self.check.name,
            "says": self.check.says,
            "note": OURS if self.check.ours else "",
            "verdict": self.verdict.value,
            "reason": self.reason,
        }

    def as_line(self) -> str:
        note = f" ({OURS})" if self.check.ours else ""
        because = f": {self.reason}" if self.reason else ""
        return f"{self.check.clause:8}  {self.verdict.value:14}  {self.check.says}{note}{because}"


def rows(checks: Iterable[Check], parties: Parties) -> Iterator[Row]:
    """Run the checks one after the other; no check depends on an earlier one."""
    for check in checks:
        try:
            check.run(parties)
        except Failed as error:
            decided = check.ours and not isinstance(error, NoAnswer)
            yield Row(check, Verdict.DIFFERS if decided else Verdict.FAIL, str(error))
        except NotApplicable as error:
            yield Row(check, Verdict.NOT_APPLICABLE, str(error))
        else:
            yield Row(check, Verdict.PASS)


def counted(found: Sequence[Row]) -> dict[str, int]:
    return {verdict.value: sum(row.verdict is verdict for row in found) for verdict in Verdict}


def as_json(found: Sequence[Row]) -> str:
    return json.dumps({"rows": [row.as_json() for row in found], "counts": counted(found)})
