"""A key management system inside the process: for tests, and for looking without a server."""

from hmac import compare_digest
from threading import Lock

from qkd_core.errors import GenerationConflict, SinkRejected
from qkd_core.types.ids import Generation
from qkd_core.types.keys import DeliveredKey
from qkd_core.types.refresh import SinkVersion


class MemorySink:
    """Implements ReadableSink. Native versions count from 1; all is lost with the process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._versions: list[tuple[Generation, DeliveredKey]] = []
        self._agreed = Generation(0)

    def __repr__(self) -> str:
        return f"MemorySink({len(self._versions)} versions, agreed generation {self._agreed})"

    @property
    def agreed(self) -> Generation:
        """The newest generation that both sites have, as far as this sink was told."""
        return self._agreed

    @property
    def keys(self) -> tuple[DeliveredKey, ...]:
        """The key of each native version, as a consumer would read them."""
        with self._lock:
            return tuple(key for _, key in self._versions)

    def prepare(self, key: DeliveredKey, generation: Generation) -> None:
        newest, _ = self.state()
        if newest >= generation:
            raise GenerationConflict(f"generation {generation}: {newest} is already there")

    def publish(self, key: DeliveredKey, generation: Generation) -> int:
        with self._lock:
            for native, (held, earlier) in enumerate(self._versions, start=1):
                if held == generation:
                    same = compare_digest(earlier.secret, key.secret)
                    if same and earlier.key_id == key.key_id:
                        return native
                    raise GenerationConflict(f"generation {generation} holds another key")
                if held > generation:
                    raise GenerationConflict(f"generation {generation}: {held} is already there")
            self._versions.append((generation, key))
            return len(self._versions)

    def agree(self, generation: Generation) -> None:
        with self._lock:
            if generation not in {held for held, _ in self._versions}:
                raise SinkRejected(f"generation {generation} is not here, so nobody agrees on it")
            self._agreed = max(self._agreed, generation)

    def abandon(self, generation: Generation) -> None:
        """Nothing is held in advance here."""

    def retire(self, generation: Generation) -> None:
        """Earlier keys stay, as long as the process."""

    def state(self) -> tuple[Generation, int]:
        with self._lock:
            if not self._versions:
                return Generation(0), 0
            return self._versions[-1][0], len(self._versions)

    def versions(self) -> tuple[SinkVersion, ...]:
        with self._lock:
            return tuple(
                SinkVersion(native=native, generation=held)
                for native, (held, _) in enumerate(self._versions, start=1)
            )

    def read(self, generation: Generation) -> bytes | None:
        with self._lock:
            return next((key.secret for held, key in self._versions if held == generation), None)
