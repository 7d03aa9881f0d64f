"""A request after its path and its fields are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """``parameters``: the names in the path; ``values``: the fields that the client gave."""

    parameters: Mapping[str, str]
    values: Mapping[str, Any] = field(repr=False)
    wrap_ttl_s: float | None
