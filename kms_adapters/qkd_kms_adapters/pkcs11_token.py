"""Sessions with a PKCS#11 token (an HSM, or SoftHSM), and what their errors mean.

A library is one per process and its calls block until the HSM answers: there is no timeout in
PKCS#11. Calls are made one at a time for each library, so a token that hangs holds up the other
tokens of the same library, and nothing else.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

import pkcs11
from pkcs11 import exceptions as hsm

from qkd_core.errors import SinkRejected, SinkUnavailable
from qkd_core.types.settings_table import SettingsTable
from qkd_kms_adapters.targets import existing_file

MAY_PASS: Final = (
    hsm.DeviceError,
    hsm.DeviceMemory,  # full: as soon as somebody makes room
    hsm.DeviceRemoved,
    hsm.FunctionCancelled,
    hsm.FunctionFailed,
    hsm.GeneralError,
    hsm.HostMemory,
    hsm.NoSuchToken,
    hsm.ObjectHandleInvalid,  # somebody removed what was just found: look again
    hsm.KeyHandleInvalid,
    hsm.SessionClosed,
    hsm.SessionCount,
    hsm.SessionHandleInvalid,
    hsm.TokenNotPresent,
    hsm.TokenNotRecognised,
    hsm.SlotIDInvalid,
)
PIN_REFUSED: Final = (hsm.PinIncorrect, hsm.PinInvalid, hsm.PinLenRange)
OTHERS_MAY_READ = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True, kw_only=True)
class Pkcs11Login:
    """A library, a token in it by label, and the file with the user PIN, readable by us alone."""

    module: Path
    token: str
    pin: Path

    @classmethod
    def from_settings(cls, table: SettingsTable, folder: Path) -> "Pkcs11Login":
        """Raises ConfigError."""
        login = cls(
            module=existing_file(table, "module", folder).resolve(),  # loaded once, by one name
            token=table.text("token", pattern=r".{1,32}"),
            pin=folder / table.text("pin"),
        )
        if login.pin.exists() and login.pin.stat().st_mode & OTHERS_MAY_READ:
            raise table.refuse("pin", str(login.pin), "must be readable by its owner only (0600)")
        return login

    @property
    def url(self) -> str:
        return f"pkcs11:{self.module}:{self.token}"


class Pkcs11Library:
    """One loaded library, shared by all sinks of the process, with one session for each login.

    A session is kept: SoftHSM writes its token file anew at each login, and loses the token when
    it is killed just then. A PIN that the token refused is not tried again until the process
    starts anew: tokens lock themselves after a few tries.
    """

    def __init__(self, module: Path) -> None:
        self._module = module
        self._lock = Lock()
        self._sessions: dict[Pkcs11Login, pkcs11.Session] = {}
        self._refused: dict[Pkcs11Login, str] = {}

    @contextmanager
    def session(self, login: Pkcs11Login, what: str) -> Iterator[pkcs11.Session]:
        """A logged-in read-write session, for one caller at a time. ``what`` opens the messages.

        Raises SinkUnavailable, SinkRejected, also for what is raised inside.
        """
        with self._lock, our_errors(what):
            if login in self._refused:
                raise SinkRejected(
                    f"{what}: the token said {self._refused[login]} to this PIN before;"
                    " it is not tried again until the process restarts"
                )
            if not self._is_alive(login):
                self._sessions[login] = self._opened(login, what)
            yield self._sessions[login]

    def _is_alive(self, login: Pkcs11Login) -> bool:
        """Whether the kept session still reaches its token."""
        session = self._sessions.get(login)
        if session is None:
            return False
        try:
            label = str(session.token.slot.get_token().label)
            list(session.get_objects({pkcs11.Attribute.LABEL: str(self)}))  # there is none
        except pkcs11.PKCS11Error:
            return False
        return label == login.token

    def _opened(self, login: Pkcs11Login, what: str) -> pkcs11.Session:
        """A new session; the library is started anew if that may help.

        Some look for tokens only when they start, and hold on to one that was taken away.
        """
        try:
            library = pkcs11.lib(str(self._module))
        except pkcs11.PKCS11Error as error:  # not there, not a library, or it does not start
            raise SinkUnavailable(f"{what}: {self._module} does not load") from error
        try:
            return self._logged_in(library.get_token(token_label=login.token), login)
        except MAY_PASS:
            self._sessions.clear()  # they end with it
            library.reinitialize()
            return self._logged_in(library.get_token(token_label=login.token), login)

    def _logged_in(self, token: pkcs11.Token, login: Pkcs11Login) -> pkcs11.Session:
        try:
            return token.open(rw=True, user_pin=pin_of(login.pin))
        except hsm.UserAlreadyLoggedIn:  # with another file's PIN: a login is the whole process's
            return token.open(rw=True)
        except (*PIN_REFUSED, hsm.PinLocked, hsm.PinExpired) as error:
            self._refused[login] = type(error).__name__
            raise


@contextmanager
def our_errors(what: str) -> Iterator[None]:
    """Turn every failure of the library into a SinkError."""
    try:
        yield
    except MAY_PASS as error:
        raise SinkUnavailable(f"{what}: no answer that counts ({reason_of(error)})") from error
    except pkcs11.PKCS11Error as error:
        if type(error) is pkcs11.PKCS11Error:  # a code that only its maker knows
            raise SinkUnavailable(f"{what}: failed ({reason_of(error)})") from error
        raise SinkRejected(f"{what}: refused ({reason_of(error)})") from error


def reason_of(error: pkcs11.PKCS11Error) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())


def pin_of(path: Path) -> str:
    """The one line of the PIN file.

    Raises SinkUnavailable when it cannot be read, SinkRejected when others than its owner can.
    """
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & OTHERS_MAY_READ:
                raise SinkRejected(f"PIN file {path}: must be readable by its owner only (0600)")
            return file.read().strip()
    except OSError as error:  # it may be mounted in a moment
        raise SinkUnavailable(f"PIN file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SinkRejected(f"PIN file {path}: not UTF-8 text") from error
