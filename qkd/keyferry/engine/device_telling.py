"""Tells the site's other processes each second how the link's device is."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from keyferry.processes.device_file import Figures, tell

log = logging.getLogger(__name__)

TELL_S = 1.0
STOP_S = 1.0


@contextmanager
def told_each_second(look: Callable[[], Figures], state_dir: Path) -> Iterator[None]:
    """In a thread of its own until the context ends; ``look`` does not wait for the device."""
    stopping = Event()
    thread = Thread(
        target=_tell_on, args=(look, state_dir, stopping), name="device-told", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(STOP_S)


def _tell_on(look: Callable[[], Figures], state_dir: Path, stopping: Event) -> None:
    is_told = True
    while not stopping.is_set():
        try:
            tell(state_dir, look())
            is_told = True
        except OSError as error:
            if is_told:
                log.warning("how the link's device is cannot be told: %s", error)
            is_told = False
        stopping.wait(TELL_S)
