"""The in-memory sink faces the lists that real servers face, and each check can fail."""

import pytest

from qkd_core.types.ids import Generation
from qkd_core.types.refresh import SinkVersion
from qkd_kms_adapters.conformance import CHECKS, READABLE_CHECKS, a_key
from qkd_kms_adapters.memory import MemorySink

EVERY_CHECK = (*CHECKS, *READABLE_CHECKS)
KEPT_BY_DOING_NOTHING = {
    "an_empty_sink_has_no_generation",
    "preparing_changes_nothing",
}


@pytest.mark.parametrize("check", EVERY_CHECK, ids=lambda check: check.__name__)
def test_the_memory_sink_keeps_its_promises(check) -> None:
    check(MemorySink())


def test_a_consumer_reads_the_versions_and_the_agreed_generation() -> None:
    sink, key = MemorySink(), a_key()
    sink.publish(key, Generation(1))
    assert sink.keys == (key,)
    assert sink.agreed == 0
    sink.agree(Generation(1))
    assert sink.agreed == 1


@pytest.mark.parametrize("check", EVERY_CHECK, ids=lambda check: check.__name__)
def test_no_check_passes_on_a_sink_that_forgets_everything(check) -> None:
    if check.__name__ in KEPT_BY_DOING_NOTHING:
        check(Forgetful())
        return
    with pytest.raises((AssertionError, UnboundLocalError)):
        check(Forgetful())


class Forgetful:
    """Says yes to everything and keeps nothing."""

    def prepare(self, key: object, generation: Generation) -> None: ...

    def publish(self, key: object, generation: Generation) -> int:
        return 1

    def agree(self, generation: Generation) -> None: ...

    def abandon(self, generation: Generation) -> None: ...

    def retire(self, generation: Generation) -> None: ...

    def state(self) -> tuple[Generation, int]:
        return Generation(0), 0

    def versions(self) -> tuple[SinkVersion, ...]:
        return ()

    def read(self, generation: Generation) -> bytes | None:
        return None
