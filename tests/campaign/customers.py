"""Services at both sites that fetch keys without a pause, and remember all they were given."""

import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from qkd_client.etsi014 import Etsi014Client
from qkd_client.wire import Key, KmeError, KmeUnreachable

AT_ONCE, BITS = 20, 128
PATIENCE_S = 12.0  # for the slave's copy, while sites come and go
PAUSE_S = 0.1
SERVER_SIDE = 500


@dataclass
class Given:
    """What came out of both sites, by key ID."""

    masters: dict[str, bytes] = field(default_factory=dict)
    slaves: dict[str, bytes] = field(default_factory=dict)
    duplicates: list[str] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)  # a master's key that its slave was refused
    unanswered: Counter[str] = field(default_factory=Counter)
    unheard: set[str] = field(default_factory=set)  # asked for, and an answer did not come
    put_off: dict[str, str] = field(default_factory=dict)  # the last "not now" for a slave's copy
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _bytes: set[bytes] = field(default_factory=set)

    def to_master(self, key: Key) -> None:
        with self._lock:
            if key.key_id in self.masters or key.secret in self._bytes:
                self.duplicates.append(key.key_id)
            self.masters[key.key_id] = key.secret
            self._bytes.add(key.secret)

    def to_slave(self, key: Key) -> None:
        with self._lock:
            if key.key_id in self.slaves:
                self.duplicates.append(key.key_id)
            if self.masters.get(key.key_id) != key.secret:
                self.mismatches.append(key.key_id)
            self.slaves[key.key_id] = key.secret

    def no_answer(self, call: str, key_ids: Iterable[str] = ()) -> None:
        with self._lock:
            self.unanswered[call] += 1
            self.unheard.update(key_ids)

    def was_refused(self, key_id: str) -> None:
        with self._lock:
            self.refused.add(key_id)

    @property
    def deliveries(self) -> int:
        return len(self.masters) + len(self.slaves)


@dataclass(frozen=True)
class Access:
    """One SAE's way to its KME."""

    url: str
    cert: Path
    key: Path
    ca: Path

    def client(self) -> Etsi014Client:
        return Etsi014Client(self.url, cert=self.cert, key=self.key, ca=self.ca, timeout_s=5.0)


class Pair(threading.Thread):
    """A master and its slave: new keys at one site, their copies at the other."""

    def __init__(self, names: tuple[str, str], access: tuple[Access, Access], given: Given) -> None:
        super().__init__(daemon=True)
        self._master, self._slave = names
        self._at_master, self._at_slave = access
        self._given = given
        self._over = threading.Event()
        self._mine: list[str] = []

    def fetch_the_rest(self) -> None:
        """In peace, once the thread has ended: copies that could not be had while sites fell."""
        known = self._given.slaves.keys() | self._given.refused
        with self._at_slave.client() as slave:
            for key_id in [key_id for key_id in self._mine if key_id not in known]:
                self._copies(slave, [key_id])

    def stop(self) -> None:
        self._over.set()

    def run(self) -> None:
        with self._at_master.client() as master, self._at_slave.client() as slave:
            while not self._over.is_set():
                keys = self._new_keys(master)
                if keys:
                    self._copies(slave, [key.key_id for key in keys])
                else:
                    time.sleep(PAUSE_S)

    def _new_keys(self, master: Etsi014Client) -> tuple[Key, ...]:
        try:
            keys = master.get_key(self._slave, number=AT_ONCE, size=BITS)
        except KmeUnreachable:
            self._given.no_answer("enc_keys")
            return ()
        except KmeError:
            return ()
        for key in keys:
            self._given.to_master(key)
        self._mine += [key.key_id for key in keys]
        return keys

    def _copies(self, slave: Etsi014Client, key_ids: list[str]) -> None:
        """All together, then one by one those that were refused together."""
        if self._fetched(slave, key_ids) is False:
            for key_id in key_ids:
                if len(key_ids) == 1 or self._fetched(slave, [key_id]) is False:
                    self._given.was_refused(key_id)

    def _fetched(self, slave: Etsi014Client, key_ids: list[str]) -> bool | None:
        """False: refused for good. None: no answer in time."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                keys = slave.get_key_with_ids(self._master, key_ids)
            except KmeUnreachable:
                self._given.no_answer("dec_keys", key_ids)
            except KmeError as error:
                if error.status < SERVER_SIDE:
                    return False
                self._given.put_off |= dict.fromkeys(key_ids, str(error))
            else:
                for key in keys:
                    self._given.to_slave(key)
                return True
            time.sleep(PAUSE_S)
        return False if len(key_ids) > 1 else None
