"""The reply to each single request of a run is lost once: the run ends as if none had been."""

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from qkd_core.errors import SinkUnavailable
from qkd_core.types.ids import Generation, KmeId, Side
from qkd_core.types.refresh import KeyAlgorithm, RefreshPolicy
from qkd_kms_adapters.conformance import a_key
from qkd_kms_adapters.targets import Servers

sys.path.insert(0, str(Path(__file__).parent))
from cutting import cutter

sys.path.pop(0)

ONE, TWO = Generation(1), Generation(2)
POLICY = RefreshPolicy(
    name="payments",
    kmes=(KmeId("kme-a"), KmeId("kme-b")),
    n_bits=256,
    algorithm=KeyAlgorithm.AES_GCM,
    interval_s=3600,
    initiator=Side.A,
)


@pytest.mark.parametrize("kind", ["new_target", "new_transit"])
def test_a_lost_reply_makes_no_second_version(kind, server_a, cutter_a) -> None:
    relayed, direct = Servers(), Servers()
    tried = lost = 0
    for nth in count(1):
        target = getattr(server_a, kind)()
        login = replace(target.login, url=f"https://127.0.0.1:{cutter_a.port}")
        sink = replace(target, login=login).sink(POLICY, relayed)
        first, second = a_key(), a_key()
        sink.publish(first, ONE)
        sink.prepare(second, TWO)  # and the connection stands

        cutter_a.cut(nth)
        failed = sum(
            again_if_unavailable(step, *arguments)
            for step, arguments in (
                (sink.publish, (second, TWO)),
                (sink.agree, (TWO,)),
                (sink.retire, (ONE,)),
            )
        )
        if not cutter_a.was_cut():
            break
        tried, lost = tried + 1, lost + failed

        after = target.sink(POLICY, direct)  # as another process, on a way of its own
        natives = {each.generation: each.native for each in after.versions()}
        assert [each.generation for each in after.versions()] == [1, 2]
        assert after.publish(second, TWO) == natives[TWO] == 2
        assert after.state() == (2, 2)
        if kind == "new_target":
            assert (after.read(ONE), after.read(TWO)) == (first.secret, second.secret)
    assert tried >= 10, "the relay lost too few replies to say anything"
    assert lost == tried, "a lost reply was not noticed"


@pytest.mark.parametrize(("kind", "path"), [("new_target", "/data/"), ("new_transit", "/import")])
def test_a_server_that_is_killed_when_it_has_written_makes_no_second_version(
    kind, path, server_b
) -> None:
    target, first, second = getattr(server_b, kind)(), a_key(), a_key()
    with cutter(server_b.port) as relay:
        login = replace(target.login, url=f"https://127.0.0.1:{relay.port}")
        sink = replace(target, login=login).sink(POLICY, Servers())
        sink.publish(first, ONE)

        http = sink._session._client().session
        send = http.send

        def kill_after_writing(request, **options):
            if request.method in ("POST", "PUT") and path in request.url:
                relay.cut(1, then=server_b.process.kill)
            return send(request, **options)

        http.send = kill_after_writing
        with pytest.raises(SinkUnavailable):
            sink.publish(second, TWO)
        http.send = send
        server_b.process.wait(timeout=20)
        server_b.start()
        native = sink.publish(second, TWO)
    after = target.sink(POLICY, Servers())
    assert [(each.native, each.generation) for each in after.versions()] == [(1, 1), (2, 2)]
    assert after.publish(second, TWO) == native == 2


def again_if_unavailable(step: Callable[..., object], *arguments: object) -> bool:
    try:
        step(*arguments)
    except SinkUnavailable:
        step(*arguments)
        return True
    return False
