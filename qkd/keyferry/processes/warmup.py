"""Compile every kernel once. Signatures are explicit, so importing a module compiles it."""

import importlib
import os
import pkgutil
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from threading import Thread

import qkd_core.kernels
import qkd_sim_link.sampling

PACKAGES = (qkd_core.kernels, qkd_sim_link.sampling)
PRODUCT = ("additive_fft", "carryless", "fft_product", "novel_basis", "toeplitz_product")


def warm_kernels() -> Iterator[tuple[int, int, str]]:
    """Yield (done, total, family) after each family of kernels is compiled, on all processors."""
    groups = families()
    workers = min(len(groups), os.cpu_count() or 1)
    spawning = get_context("spawn")
    with ProcessPoolExecutor(workers, spawning, initializer=_end_with_parent) as pool:
        # The large ones first, so that no processor is left with one alone.
        started = {pool.submit(_import, names): family for family, names in groups.items()}
        for done, future in enumerate(as_completed(started), 1):
            future.result()
            yield done, len(groups), started[future]


def families() -> dict[str, list[str]]:
    """Modules that import each other, by family: no two processes compile the same."""
    found: dict[str, list[str]] = defaultdict(list)
    for package in PACKAGES:
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            found[_family(module.name)].append(module.name)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _family(module: str) -> str:
    package, _, name = module.rpartition(".")
    if package != qkd_core.kernels.__name__:
        return package.rpartition(".")[2]
    return "product" if name in PRODUCT else name.partition("_")[0]


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work forever."""
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _import(names: list[str]) -> None:
    for name in names:
        importlib.import_module(name)
