"""The processes of ``keyferry up``, started in order and looked after."""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyferry.processes.supervisor import Part, Supervisor, keyferry_command, spawn
from keyferry.up import openbao
from keyferry.up.delivered import newest_generation
from keyferry.up.layout import (
    HOST,
    KMES,
    SAES,
    StateDirectory,
    furnish,
    socket_folder,
    write_endpoints,
)
from keyferry.up.ports import Ports, claimed_ports
from keyferry.up.site_files import KV_PREFIX, engine_role, model_of, write_site_files
from qkd_core.errors import ConfigError
from qkd_core.types.ids import Side
from qkd_sim_link.scenarios.links import LinkScenario, load_link

log = logging.getLogger(__name__)

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningSites:
    """What runs, for the progress display and the checks."""

    state: StateDirectory
    ports: Ports
    scenario: LinkScenario
    supervisor: Supervisor
    started: float  # monotonic, when the engines were started
    generation_before: int  # the newest one in the OpenBao servers at that moment


@contextmanager
def running(state: StateDirectory, source: str, report: Report) -> Iterator[RunningSites]:
    """Both sites, their OpenBao servers and the link; everything ends with the context.

    ``source`` names the scenario. ``report`` is told each step before it is taken. Compiled
    kernels are kept in the state directory, unless NUMBA_CACHE_DIR names a place for them.
    """
    scenario = load_link(source)
    os.environ.setdefault("NUMBA_CACHE_DIR", str(state.numba_cache))  # for every child
    state.endpoints.unlink(missing_ok=True)  # of a start that was killed
    report("certificates and secrets")
    furnish(state)
    supervisor = Supervisor()
    with socket_folder(state) as sockets, claimed_ports(state, lines=True) as ports:
        write_site_files(state, ports, sockets, scenario, model_of(scenario))
        try:
            _start_openbao(state, ports, supervisor)
            _warm(state, supervisor, report)
            _set_up_openbao(state, ports, report)
            generation_before = newest_generation(state, ports)
            started = time.monotonic()
            report("link, engines, key management entities")
            for part in _own_parts(state, ports, sockets, source):
                supervisor.start(part)
            _wait_for_apis(ports, supervisor)
            write_endpoints(state, endpoints(state, ports, sockets))
            yield RunningSites(
                state=state,
                ports=ports,
                scenario=scenario,
                supervisor=supervisor,
                started=started,
                generation_before=generation_before,
            )
        finally:
            state.endpoints.unlink(missing_ok=True)
            supervisor.stop()


def _start_openbao(state: StateDirectory, ports: Ports, supervisor: Supervisor) -> None:
    for side in Side:
        site, port = state.site(side), ports.site(side)
        openbao.prepare(
            site.openbao,
            site.openbao_tls,
            port=port.openbao,
            cluster_port=port.openbao_cluster,
            engine=True,
        )
        name = f"openbao-{side}"
        supervisor.start(
            Part(name=name, command=openbao.command(site.openbao), log_file=state.log(name))
        )


def _warm(state: StateDirectory, supervisor: Supervisor, report: Report) -> None:
    """Compile the kernels in a process of its own; this one needs none of them."""
    report("kernels: the first start compiles them")
    log_file = state.log("warm")
    process = spawn(Part(name="warm", command=keyferry_command("warm"), log_file=log_file))
    told = ""
    try:
        while process.poll() is None:
            supervisor.watch()
            time.sleep(0.1)
            last = (log_file.read_text().splitlines() or [""])[-1]
            if last != told:
                told = last
                report(f"kernels: {told}")
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise ConfigError(f"the kernels do not compile here: see {log_file}")


def _set_up_openbao(state: StateDirectory, ports: Ports, report: Report) -> None:
    report("OpenBao servers")
    ca = state.pki / "ca.pem"

    def set_up(side: Side) -> None:
        url = f"https://{HOST}:{ports.site(side).openbao}"
        openbao.wait_ready(url, ca)
        folder = state.site(side).openbao
        openbao.set_up(folder, url, ca, prefix=KV_PREFIX, engine=True)
        openbao.configure_engine(folder, url, ca, engine_role(state, ports, side))

    with ThreadPoolExecutor(len(Side)) as pool:
        for done in [pool.submit(set_up, side) for side in Side]:
            done.result()


def _wait_for_apis(ports: Ports, supervisor: Supervisor) -> None:
    """Until both sites take connections. Raises ConfigError when a part can never start."""
    waiting = {ports.site(side).kme for side in Side}
    while waiting:
        supervisor.watch()
        for port in tuple(waiting):
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1.0):
                waiting.discard(port)
        time.sleep(0.1)


def _own_parts(state: StateDirectory, ports: Ports, sockets: Path, source: str) -> Iterator[Part]:
    yield Part(
        name="sim-link",
        command=keyferry_command(
            "sim-link",
            source,
            *(f"--socket-{side}={sockets / f'{side}.sock'}" for side in Side),
            *(f"--credential-{side}={state.site(side).link_credential}" for side in Side),
            *fault_options(state, ports, sockets),
        ),
        log_file=state.log("sim-link"),
    )
    for side in Side:
        name = str(KMES[side])
        yield Part(
            name=name,
            command=keyferry_command("kme", "--no-warm", str(state.site(side).site_file)),
            log_file=state.log(name),
        )


def control_socket(sockets: Path) -> Path:
    """Where faults of the link are told."""
    return sockets / "c.sock"


def fault_options(state: StateDirectory, ports: Ports, sockets: Path) -> Iterator[str]:
    """So that the link takes faults, also of the lines between the sites, which it carries."""
    yield f"--control-socket={control_socket(sockets)}"
    yield f"--control-credential={state.link_control}"
    carried = [(Side.A, ports.channel_from(Side.A), ports.channel)]
    carried += [(side, ports.kme_from(side), ports.site(side.other).kme) for side in Side]
    for side, here, to in carried:
        yield from ("--line", side.value, f"{HOST}:{here}", f"{HOST}:{to}")


def endpoints(state: StateDirectory, ports: Ports, sockets: Path) -> dict[str, Any]:
    """How other programs reach the sites and the link while they run."""
    ca = str(state.pki / "ca.pem")
    return {
        "ca": ca,
        "link": {
            "control_socket": str(control_socket(sockets)),
            "control_credential": str(state.link_control),
        },
        "sites": {
            side.value: {
                "kme_id": KMES[side],
                "kme_url": f"https://{HOST}:{ports.site(side).kme}",
                "metrics_url": f"http://{HOST}:{ports.site(side).metrics}/metrics",
                "openbao": {
                    "url": f"https://{HOST}:{ports.site(side).openbao}",
                    "ca": ca,
                    "token_file": str(openbao.OpenBaoFiles(state.site(side).openbao).reader_token),
                },
            }
            for side in Side
        },
        "saes": {
            sae: {
                "site": side.value,
                "cert": str(state.saes / f"{sae}.pem"),
                "key": str(state.saes / f"{sae}.key"),
            }
            for sae, side in SAES.items()
        },
    }
