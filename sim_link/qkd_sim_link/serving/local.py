"""A simulated link of this process, for as long as it is needed."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep

from qkd_core.errors import LinkDown
from qkd_core.types.ids import Side
from qkd_sim_link.scenarios.links import LinkScenario
from qkd_sim_link.serving.server import Endpoint, serve
from qkd_sim_link.tokens import write_token

START_S = 30.0
FAST = 100.0  # link seconds per second: sampling is the slow part then


@contextmanager
def local_link(
    scenario: LinkScenario, *, time_scale: float = FAST, seed: int | None = None
) -> Iterator[Mapping[Side, Endpoint]]:
    """Where the drivers of both ends connect. Raises as `serve`."""
    stop, errors = Event(), list[BaseException]()
    with tempfile.TemporaryDirectory(prefix="keyferry-link-") as folder:
        home = Path(folder)
        ends = {side: Endpoint(home / f"{side}.sock", home / f"{side}.token") for side in Side}
        for end in ends.values():
            write_token(end.token_path)

        def run() -> None:
            try:
                serve(scenario, ends, time_scale=time_scale, seed=seed, stop=stop)
            except BaseException as error:
                errors.append(error)

        thread = Thread(target=run, name="link", daemon=True)
        thread.start()
        try:
            deadline = monotonic() + START_S
            while not all(end.socket_path.exists() for end in ends.values()):
                if errors:
                    raise errors[0]
                if monotonic() > deadline:
                    raise LinkDown(f"the simulated link does not listen after {START_S:g} s")
                sleep(0.01)
            yield ends
        finally:
            stop.set()
            thread.join(START_S)
