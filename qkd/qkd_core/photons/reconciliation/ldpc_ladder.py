"""Our own ladder of quasi-cyclic codes: twelve mothers, and the codes that are made of them.

The mothers have 1024 columns of 1024 lanes, and 46 to 500 rows. Fewer columns, given up in an order
that keeps the distribution of their degrees, give every ratio of checks to bits between two
mothers. A shift is valid for fewer lanes too, modulo 64, 128, ... 512: the code is then shorter.
The program `qkd_codes` designs the mothers and writes the file.
"""

import json
import zlib
from base64 import b64decode
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from qkd_core.errors import ConfigError

FILE = "codes.json"
DIGEST = "528a671ece17431fad94e3a5144b63ae01a5ba8d4643450ee921555081a70776"
LANES = (1024, 512, 256, 128, 64)
CODES_IN_MEMORY = 32  # 0.1 MB each

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Mother:
    """A code at its full length.

    row, column, shift  int64[edges], by rows and then by columns
    kept_first          int64[columns], in the order in which columns are kept
    """

    rows: int
    columns: int
    row: Ints = field(repr=False)
    column: Ints = field(repr=False)
    shift: Ints = field(repr=False)
    kept_first: Ints = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Code:
    """One code, as the kernels take it: see `ldpc_decoder.decode`. Arrays are read-only.

    degree  int64[columns], edges of each column
    """

    rows: int
    columns: int
    lanes: int
    ends: Ints = field(repr=False)
    column: Ints = field(repr=False)
    shift: Ints = field(repr=False)
    degree: Ints = field(repr=False)

    @property
    def n_bits(self) -> int:
        return self.columns * self.lanes

    @property
    def n_checks(self) -> int:
        return self.rows * self.lanes


@cache
def mothers() -> tuple[Mother, ...]:
    """All mothers, fewest rows first. Raises ConfigError if the file is not the one we ship."""
    body = files("qkd_core.photons.reconciliation").joinpath("ladder", FILE).read_bytes()
    found = sha256(body).hexdigest()
    if found != DIGEST:
        raise ConfigError(f"{FILE} of the LDPC codes has the SHA-256 {found}, expected {DIGEST}")
    return tuple(read_mother(entry) for entry in json.loads(body))


def read_mother(entry: dict[str, str | int]) -> Mother:
    """A mother from its entry in the file."""
    packed = zlib.decompress(b64decode(str(entry["graph"])))
    row, column, shift = np.frombuffer(packed, "<u2").reshape(3, -1).astype(np.int64)
    removal = np.frombuffer(b64decode(str(entry["removal"])), "<u2").astype(np.int64)
    columns = int(entry["columns"])
    kept_first = _kept_first(np.bincount(column, minlength=columns), removal)
    return Mother(int(entry["rows"]), columns, row, column, shift, kept_first)


def _kept_first(degree: Ints, removal: Ints) -> Ints:
    """All columns, the last to give up first.

    The file gives up half of them; of the rest, every degree loses its share likewise.
    """
    rest = np.setdiff1d(np.arange(degree.size), removal)
    rank = np.empty(rest.size)
    for each in np.unique(degree[rest]):
        of_degree = np.flatnonzero(degree[rest] == each)
        rank[of_degree] = (np.arange(of_degree.size) + 0.5) / of_degree.size
    return np.concatenate([rest[np.argsort(rank, kind="stable")], removal[::-1]])


@cache
def _by_rows() -> dict[int, Mother]:
    return {mother.rows: mother for mother in mothers()}


def code(rows: int, columns: int, lanes: int) -> Code:
    """The code of a mother's ``rows`` with so many of its columns."""
    mother = _by_rows()[rows]
    kept = np.zeros(mother.columns, np.bool_)
    kept[mother.kept_first[:columns]] = True
    edges = kept[mother.column]
    column = (np.cumsum(kept) - 1)[mother.column[edges]]
    ends = np.concatenate([[0], np.cumsum(np.bincount(mother.row[edges], minlength=rows))])
    arrays = (ends, column, mother.shift[edges] % lanes, np.bincount(column, minlength=columns))
    for array in arrays:
        array.flags.writeable = False
    return Code(rows, columns, lanes, *arrays)
