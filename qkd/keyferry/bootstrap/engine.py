"""The engine process of a site."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from json import dumps
from pathlib import Path

from keyferry.bootstrap.devices import Driver, driver_of, watched_driver
from keyferry.bootstrap.stores import peer_session, store_of
from keyferry.bootstrap.vendor import vendor_box, vendor_end
from keyferry.channel.transport import ChannelIdentity, Listener, Transport, connect
from keyferry.clock import SystemClock
from keyferry.config.site import SiteSettings
from keyferry.config.vendor import VendorBox
from keyferry.engine.block import AliceEnd, BobEnd, LinkEnd, watched_urandom
from keyferry.engine.budget import Budget
from keyferry.engine.correcting import CorrectionPolicy
from keyferry.engine.decoy import DecoyAlice, DecoyBob
from keyferry.engine.loop import Engine
from keyferry.engine.pairs import LearningEnd, PairAlice, PairBob
from keyferry.engine.room import Room
from keyferry.engine.sifted_pairs import SiftedEnd
from keyferry.engine.tagged_pairs import TaggedAlice, TaggedBob
from keyferry.engine.terms import LinkTerms
from keyferry.store.connection import check_private
from keyferry.store.sqlite import Store
from keyferry.witness.keeper import BOTH_LANES, Duties
from keyferry.witness.process import gate_of, watched
from qkd_core.errors import AuthenticationPoolExhausted, ConfigError
from qkd_core.photons.amplification import HASH
from qkd_core.photons.monitors import Watch
from qkd_core.photons.pair_monitors import PairWatch
from qkd_core.photons.reconciliation.ldpc_ladder import DIGEST as LDPC_CODES
from qkd_core.ports import PairDevice
from qkd_core.types.authentication import Lane
from qkd_core.types.ids import Side
from qkd_core.types.monitors import MonitorSettings, PairMonitorSettings
from qkd_core.types.plans import DecoySettings, LinkModel, PairModel, PairSettings
from qkd_sim_link.drivers.epochs import EpochEnd
from qkd_sim_link.drivers.sifted_replay import SiftedReplay
from qkd_sim_link.drivers.simulated import SimulatedAlice, SimulatedBob

log = logging.getLogger(__name__)

ACCEPT_S = 10.0
SWITCH_S = 0.001  # a block whose kernel is done does not wait long for another one's Python

RoundTrip = Callable[[], float]


def run_engine(site: SiteSettings, stopping: Callable[[], bool]) -> None:
    """The engine process, with the link that the site file names. Raises as `serve`."""
    terms, device = terms_of(site), site.link.device
    if isinstance(device, VendorBox):
        with vendor_box(site, terms, device) as box:
            serve(site, terms, lambda store, _: vendor_end(site, terms, box, store), stopping)
        return
    driver = driver_of(site)
    with watched_driver(driver, site.state_dir):
        serve(
            site,
            terms,
            lambda store, round_trip_s: _end(site, terms, driver, store, round_trip_s),
            stopping,
        )


def serve(
    site: SiteSettings,
    terms: LinkTerms,
    end_of: Callable[[Store, RoundTrip], LinkEnd],
    stopping: Callable[[], bool],
) -> None:
    """Run one end of a link, which ``end_of`` makes of the store and the channel's figures.

    Raises AuthenticationPoolExhausted when it starts without a pad.

    It returns as well when the site may not tag any more, as after a rekey: what it holds is of
    before that. Raises ConfigError.
    """
    sys.setswitchinterval(SWITCH_S)
    duties = Duties(lanes=BOTH_LANES)
    with (
        channel_of(site) as connected,
        closing(store_of(site, "engine")) as store,
        closing(peer_session(site)) as session,
    ):
        take_preshared_secret(site.link.preshared_secret, store)
        store.epsilon.set_limits(site.epsilon)
        gate = gate_of(store)
        with watched(store, session, site.state_dir, duties, SystemClock()) as keeper:
            if not keeper.wait_open(stopping):
                return
            meeting = Meeting(connected)
            begun = store.witness.marks().incarnation

            def is_over() -> bool:
                """A rekey may shut the gate and open it again between two looks at it."""
                return stopping() or not gate.is_open or store.witness.marks().incarnation != begun

            engine = Engine(
                end=end_of(store, meeting.round_trip_s),
                terms=terms,
                blocks=store.blocks,
                pads=store.pads,
                agreement=store.agreement,
                room=room_of(site, store),
                budget=Budget(store.epsilon, terms.policy),
                connect=meeting.connect,
                timeout_s=site.link.timeout_s + 2 * terms.settings.link_s,
                blocks_in_flight=site.link.blocks_in_flight,
                stopping=is_over,
            )
            engine.run_until_rekeyed()


def terms_of(site: SiteSettings) -> LinkTerms:
    """What both site files must say alike about the link.

    The digest is over that, the hash and the codes: over what both must do alike.
    """
    link = site.link
    shared = {
        "link_id": link.link_id,
        "settings": asdict(link.settings),
        "security": asdict(site.security),
        "theorem": site.theorem,
        "amplification": HASH,
        "ldpc_codes": LDPC_CODES,
    }
    digest = sha256(dumps(shared, sort_keys=True).encode()).hexdigest()
    return LinkTerms(
        link_id=link.link_id,
        settings=link.settings,
        policy=site.security,
        theorem=site.theorem,
        accept_provenance=site.accept_provenance,
        config_digest=digest,
    )


def correction_of(
    site: SiteSettings, terms: LinkTerms, round_trip_s: RoundTrip
) -> CorrectionPolicy:
    """The link's policy for error correction, by the site file."""
    return CorrectionPolicy(
        methods=site.link.correction,
        block_s=terms.settings.link_s,
        blocks_in_flight=site.link.blocks_in_flight,
        errors_count=isinstance(terms.settings, DecoySettings),
        round_trip_s=round_trip_s,
    )


@dataclass(slots=True)
class Meeting:
    """Connects, and remembers the connection for its figures."""

    connected: Callable[[], Transport]
    _transport: Transport | None = None

    def connect(self) -> Transport:
        self._transport = self.connected()
        return self._transport

    def round_trip_s(self) -> float:
        """Of the present connection; 0 when there is none."""
        return self._transport.round_trip_s() if self._transport else 0.0


def _end(
    site: SiteSettings, terms: LinkTerms, driver: Driver, store: Store, round_trip_s: RoundTrip
) -> LinkEnd:
    correction = correction_of(site, terms, round_trip_s)
    if isinstance(driver, SimulatedAlice):
        model = site.link.model
        if not isinstance(model, LinkModel):
            raise ConfigError(f"{site.file}: link.pulses and link.model are of different kinds")
        alice = DecoyAlice(
            terms=terms, device=driver, pads=store.pads, configured=model, correction=correction
        )
        return AliceEnd(link=alice, blocks=store.blocks, room=room_of(site, store))
    if not isinstance(driver, SimulatedBob):
        return _pair_end(site, terms, driver, store, correction)
    source, monitors = watched_urandom(), site.link.monitors
    watch = None
    if isinstance(monitors, MonitorSettings):
        watch = Watch(monitors, driver if monitors.self_test else None)
    bob = DecoyBob(terms=terms, device=driver, watch=watch, entropy=source)
    return BobEnd(link=bob, blocks=store.blocks, room=room_of(site, store), entropy=source)


def _pair_end(
    site: SiteSettings,
    terms: LinkTerms,
    driver: EpochEnd | SiftedReplay,
    store: Store,
    correction: CorrectionPolicy,
) -> LinkEnd:
    link, room = site.link, room_of(site, store)
    settings, model = link.settings, link.model
    if not isinstance(settings, PairSettings) or not isinstance(model, PairModel):
        raise ConfigError(f"{site.file}: link.pairs and link.model are of different kinds")
    source = watched_urandom()
    device: PairDevice
    monitors = link.monitors if isinstance(link.monitors, PairMonitorSettings) else None
    if isinstance(driver, SiftedReplay):
        device = SiftedEnd(device=driver, monitors=monitors)
    else:
        kind = TaggedBob if site.side is Side.B else TaggedAlice
        device = kind(
            device=driver,
            settings=settings,
            watch=PairWatch(monitors) if monitors else None,
            note=store.blocks.note_light,
            entropy=source,
        )
    if site.side is Side.B:
        bob = PairBob(terms=terms, device=device)
        return BobEnd(link=bob, blocks=store.blocks, room=room, entropy=source)
    alice = PairAlice(
        terms=terms, device=device, pads=store.pads, configured=model, correction=correction
    )
    end = AliceEnd(link=alice, blocks=store.blocks, room=room, entropy=source)
    return LearningEnd(end=end, link=alice)


def room_of(site: SiteSettings, store: Store) -> Room:
    """Whether the store has room for another block."""
    return Room(store.blocks, store.pads, site.keeping)


@contextmanager
def channel_of(site: SiteSettings) -> Iterator[Callable[[], Transport]]:
    """How this side's engine meets the peer's: B listens, A connects."""
    address = site.link.channel
    identity = ChannelIdentity(
        ca=site.tls.ca,
        cert=site.tls.cert,
        key=site.tls.key,
        crl=site.tls.crl,
        peer_kme=site.link.peer_kme,
    )
    if site.side is Side.A:
        yield lambda: connect(address.host, address.port, identity, ACCEPT_S)
        return
    with closing(Listener(address.host, address.port, identity)) as listener:
        yield lambda: listener.accept(ACCEPT_S)


def take_preshared_secret(file: Path, store: Store) -> None:
    """Move the pre-shared secret into the sealed store and erase its file.

    Without a file the store must hold the secret already. Raises ConfigError;
    AuthenticationPoolExhausted when it has held one.
    """
    try:
        secret = file.read_bytes()
    except FileNotFoundError:
        if not any(store.pads.remaining(side, lane) for side in Side for lane in Lane):
            if store.blocks.newest():  # used up or zeroised, not a wrong setting
                raise AuthenticationPoolExhausted(
                    "the store holds no pads: the link needs a rekey"
                ) from None
            raise ConfigError(
                f"link.preshared_secret = {file}: no such file, and the store holds no pads"
            ) from None
        return
    except OSError as error:
        raise ConfigError(f"link.preshared_secret = {file}: {error.strerror}") from error
    check_private(file)
    try:
        store.pads.install_preshared(secret)
    except ConfigError as error:  # the link goes on with the secret that it has
        log.error("link.preshared_secret = %s is not taken: %s", file, error)
        return
    with file.open("r+b") as handle:  # journaling and flash may keep copies: see the README
        handle.write(bytes(len(secret)))
        handle.flush()
        os.fsync(handle.fileno())
    file.unlink()
    log.info("the pre-shared secret is in the store, its file is erased")
