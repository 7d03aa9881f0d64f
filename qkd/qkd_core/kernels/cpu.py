"""Which instructions the kernels may use: found once from the CPU, never tried.

An instruction that the CPU lacks ends the process, and so does asking LLVM for one that the target
lacks: a family of kernels is therefore compiled for a path only after `runs` has said yes.
"""

from enum import IntEnum
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from numba.core import config as numba_config

config: Any = numba_config  # it makes its attributes as it reads the environment


class Path(IntEnum):
    """How many 64-bit words one carry-less multiplication instruction reads; 1 is no such one."""

    PLAIN = 1
    PCLMUL = 2
    AVX2 = 4
    AVX512 = 8


NEEDS = {
    Path.AVX512: frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "vpclmulqdq"}),
    Path.AVX2: frozenset({"avx", "avx2", "pclmul", "vpclmulqdq"}),
    Path.PCLMUL: frozenset({"pclmul", "sse4.1"}),
    Path.PLAIN: frozenset(),
}


@cache
def features() -> frozenset[str]:
    """What this CPU has *and* numba compiles for, by LLVM's names ("avx2", "pclmul", ...)."""
    host = {name for name, on in llvm.get_host_cpu_features().items() if on}
    if config.CPU_FEATURES is not None:  # numba was told to compile for less
        host &= {name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+")}
    elif config.CPU_NAME not in (None, "", "host"):  # for another CPU, whose features we ignore
        host = set()
    elif not config.ENABLE_AVX:
        host = {name for name in host if not name.startswith("avx")} - {"vpclmulqdq"}
    return frozenset(host)


def runs(path: Path) -> bool:
    """Whether kernels may be compiled for ``path`` here."""
    return NEEDS[path] <= features()


@cache
def path() -> Path:
    """The widest path that this CPU runs; the one that the product uses."""
    return max(each for each in Path if runs(each))


def runnable() -> tuple[Path, ...]:
    """Every path that this CPU runs, the widest first."""
    return tuple(sorted(filter(runs, Path), reverse=True))
