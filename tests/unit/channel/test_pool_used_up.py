"""An engine without pads stands still in its process, and leaves when the link is rekeyed."""

import logging

from keyferry.engine.budget import Budget
from keyferry.engine.loop import Engine
from keyferry.engine.room import Room
from qkd_core.errors import AuthenticationPoolExhausted
from qkd_core.types.ids import Side
from qkd_core.types.plans import SecurityPolicy


def test_an_engine_whose_pads_are_used_up_waits_until_it_is_told_to_leave(ends, caplog):
    end = ends[Side.A]
    looks = []

    def stopping() -> bool:
        looks.append(len(looks))
        return len(looks) > 4

    def connect():
        raise AuthenticationPoolExhausted("no pad is left")

    engine = Engine(
        end=None,
        terms=None,
        blocks=end.store.blocks,
        pads=end.store.pads,
        agreement=end.store.agreement,
        room=Room(end.store.blocks, end.store.pads),
        budget=Budget(
            end.store.epsilon, SecurityPolicy(eps_sec=1e-9, eps_cor=1e-12, abort_rate=0.01)
        ),
        connect=connect,
        timeout_s=1.0,
        stopping=stopping,
    )
    with caplog.at_level(logging.CRITICAL):
        engine.run_until_rekeyed()
    assert len(looks) == 5
    assert "no pad is left: the link stands still, it needs a rekey" in caplog.text
