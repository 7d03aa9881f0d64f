"""The orders of an operator at one site, and what the site says of itself."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from keyferry.config.site import SiteSettings
from keyferry.operator.comparison_rows import comparison_row
from keyferry.operator.confirming import Confirmations, Order
from keyferry.operator.policies import PolicyOrders
from keyferry.operator.refreshes import RefreshOrders
from keyferry.operator.requests import Handled, text
from keyferry.operator.site_status import site_status
from keyferry.operator.socket import Caller
from keyferry.reconcile.run import Report
from keyferry.store.connection import check_private
from keyferry.store.preshared import is_installed
from keyferry.store.sqlite import Store
from qkd_core.errors import ConfigError, KeyNotFound
from qkd_core.ports import Clock, RefreshPeer
from qkd_core.types.comparing import Comparison
from qkd_core.types.ids import KeyId


class Errands(Protocol):
    """What needs the other site. All but `peer_answers` raise PeerUnavailable, PeerViolation."""

    @property
    def refreshes(self) -> RefreshPeer: ...

    def tell(self) -> bool:
        """Tell the peer what waits to be told; whether nothing is left."""

    def reconcile(self) -> Report: ...

    def compare_kms(self, policy: str) -> Comparison:
        """Compare what stands in both KMSs now. Raises also ConfigError, SinkError."""

    def peer_answers(self) -> bool: ...


class Orders:
    """Carries out one request at a time, whoever brings it. Every order is audited."""

    def __init__(self, site: SiteSettings, store: Store, errands: Errands, clock: Clock) -> None:
        self._site, self._store, self._errands = site, store, errands
        self._clock = clock
        self._confirmations = Confirmations(store.database)
        self._orders: dict[str, Handled] = {
            "status": self._status,
            "reconcile": self._reconcile,
            "burn": self._burn,
            "zeroise": self._zeroise,
            "rekey": self._rekey,
            **PolicyOrders(site, store, errands.refreshes, clock).orders,
            **RefreshOrders(
                store, errands.refreshes, self._confirmations, initiated_by(site)
            ).orders,
            "policy-compare": self._compare,
        }

    def handle(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
        """The answer to one request. Raises QkdError."""
        name = request.get("order")
        order = self._orders.get(name) if isinstance(name, str) else None
        if order is None:
            raise ConfigError(f"order {name!r}: known are {', '.join(self._orders)}")
        return order(request, caller)

    def _status(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
        answers = self._errands.peer_answers
        return site_status(self._site, self._store, answers, self._clock.now())

    def _reconcile(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
        return self._errands.reconcile().as_json()

    def _compare(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
        return comparison_row(self._errands.compare_kms(text(request, "name")))

    def _burn(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
        key_id = KeyId(text(request, "key_id"))
        if self._store.allocations.allocation(key_id) is None:
            raise KeyNotFound(f"key {key_id} is not known at this site")
        order = Order(f"burn key {key_id} at both sites")

        def carry_out(reason: str) -> Mapping[str, Any]:
            return {"key_id": key_id, "was": self._store.agreement.burn_key(key_id, reason)}

        return self._twice(order, request, caller, carry_out)

    def _zeroise(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
        what = text(request, "what")
        if what not in ("link", "site"):
            raise ConfigError(f"zeroise {what!r}: link or site")
        link_id = self._site.link.link_id
        effect = f"erase all stored key, held keys and pads of link {link_id} at both sites"
        if what == "site":
            effect += f", and every data key and the root key of KME {self._site.kme_id}"

        def carry_out(reason: str) -> Mapping[str, Any]:
            if what == "site":
                zeroise_site(self._store, self._site.root_key, self._errands.tell, reason)
            else:
                self._store.agreement.zeroise_link(reason)
            return {"zeroised": what}

        return self._twice(Order(effect), request, caller, carry_out)

    def _rekey(self, request: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
        file = Path(text(request, "file"))
        order = Order(
            f"erase what is stored of link {self._site.link.link_id}"
            f" and install the pre-shared secret in {file}"
        )
        read_secret(file)  # a file that cannot be used is told before anything is asked
        if not self._site.root_key.exists():
            raise ConfigError(
                f"{self._site.root_key}: the root key is gone, as after zeroise --site:"
                " this site starts again with an empty state directory"
            )

        def carry_out(reason: str) -> Mapping[str, Any]:
            rekey_from(self._store, file, reason)
            return {"rekeyed": self._site.link.link_id}

        return self._twice(order, request, caller, carry_out)

    def _twice(
        self,
        order: Order,
        request: Mapping[str, Any],
        caller: Caller,
        carry_out: Callable[[str], Mapping[str, Any]],
    ) -> Mapping[str, Any]:
        """Asked twice, and told to the peer."""
        answer = self._confirmations.twice(order, request, caller, carry_out)
        return answer if "would" in answer else {**answer, "peer_told": self._errands.tell()}


def zeroise_site(store: Store, root_key: Path, tell: Callable[[], object], reason: str) -> None:
    """The end of all key at this site. Each step may be repeated after a kill.

    ``tell``: tries once to tell the peer. The root key goes last, since a store that cannot be
    opened any more tells nobody; it wraps nothing by then.
    """
    store.agreement.zeroise_link(reason)
    store.destroy_data_keys(reason)
    try:
        tell()
    finally:
        erase_file(root_key)


def rekey_from(store: Store, file: Path, reason: str) -> None:
    """Start empty with the secret in ``file``, and erase the file.

    When the secret is installed already, as after a kill, only the file goes. Raises ConfigError.
    """
    secret = read_secret(file)
    seal = store.database.seal
    if not store.database.read(lambda connection: is_installed(connection, seal, secret)):
        store.witness.rekey(secret, reason)
    erase_file(file)


def read_secret(file: Path) -> bytes:
    """The pre-shared secret in a private file. Raises ConfigError."""
    try:
        check_private(file)
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error


def erase_file(file: Path) -> None:
    """Overwrite and remove; journaling and flash may keep copies: see the README."""
    with file.open("r+b") as handle:
        size = handle.seek(0, os.SEEK_END)
        handle.seek(0)
        handle.write(bytes(size))
        handle.flush()
        os.fsync(handle.fileno())
    file.unlink()


def initiated_by(site: SiteSettings) -> frozenset[str]:
    """The policies whose runs this site begins."""
    policies = [entry.policy for entry in site.policies]
    return frozenset(each.name for each in policies if each.initiator is site.side)
