"""Reading JSON values by type and range, each with the place where it stands."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Any

from qkd_certify.refusal import CertificateRefused, said

TEXT_MAX = 200
HEX_DIGITS = 64  # of SHA-256


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its path, like ``plan.settings``. Each method raises CertificateRefused."""

    where: str
    value: Any

    def refused(self, allowed: str) -> CertificateRefused:
        return CertificateRefused(self.where, self.value, allowed)

    def members(self, names: Iterable[str]) -> dict[str, "Node"]:
        """Those of an object that has exactly the ``names``."""
        wanted = sorted(names)
        if not isinstance(self.value, dict):
            raise self.refused(f"an object of {', '.join(wanted)}")
        for name in wanted:
            if name not in self.value:
                whole = f"{self.where} with {', '.join(wanted)}"
                raise CertificateRefused(self._below(name), said("missing"), whole)
        for name in self.value:
            if name not in wanted:
                raise CertificateRefused(f"a field of {self.where}", name, ", ".join(wanted))
        return {name: Node(self._below(name), self.value[name]) for name in wanted}

    def listed(self, n_max: int) -> list["Node"]:
        if not isinstance(self.value, list | tuple) or len(self.value) > n_max:
            raise self.refused(f"a list of up to {n_max}")
        return [Node(f"{self.where}[{i}]", value) for i, value in enumerate(self.value)]

    def exactly(self, n: int) -> list["Node"]:
        """A list with one value for each of ``n`` intensities."""
        listed = self.listed(n)
        if len(listed) < n:
            raise self.refused(f"a list of {n}")
        return listed

    def integer(self, low: int, high: int) -> int:
        if type(self.value) is not int or not low <= self.value <= high:
            raise self.refused(f"an integer from {low} to {high}")
        return self.value

    def number(self, low: float, high: float) -> float:
        """An integer will do; the value is exact."""
        if not self._is_number() or not low <= self.value <= high:
            raise self.refused(f"a number from {low:g} to {high:g}")
        return float(self.value)

    def inside(self, low: float, high: float) -> float:
        """As `number`, both ends excluded."""
        if not self._is_number() or not low < self.value < high:
            raise self.refused(f"a number between {low:g} and {high:g}, both excluded")
        return float(self.value)

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.refused("true or false")
        return self.value

    def text(self) -> str:
        if not isinstance(self.value, str) or not 0 < len(self.value) <= TEXT_MAX:
            raise self.refused(f"a text of up to {TEXT_MAX} characters")
        return self.value

    def one_of(self, names: Iterable[str]) -> str:
        wanted = sorted(names)
        if self.value not in wanted:
            raise self.refused(", ".join(wanted))
        return str(self.value)

    def digest(self) -> str:
        text = self.text()
        if len(text) != HEX_DIGITS or set(text) - set("0123456789abcdef"):
            raise self.refused(f"{HEX_DIGITS} hexadecimal digits")
        return text

    def _below(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where != WHOLE else name

    def _is_number(self) -> bool:
        """Of any size for an integer: the range is for the caller."""
        return type(self.value) is int or (type(self.value) is float and isfinite(self.value))


WHOLE = "the certificate"
