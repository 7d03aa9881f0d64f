"""Compile every kernel once. Signatures are explicit, so importing a module compiles it."""

import importlib
import pkgutil
from collections.abc import Iterator

import qkd_core.kernels
import qkd_sim_link.sampling

PACKAGES = (qkd_core.kernels, qkd_sim_link.sampling)


def warm_kernels() -> Iterator[tuple[int, int, str]]:
    """Yield (done, total, module) after each module of kernels is compiled."""
    names = [
        module.name
        for package in PACKAGES
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    ]
    for done, name in enumerate(names, 1):
        importlib.import_module(name)
        yield done, len(names), name
