"""Who forges messages makes a link come back more and more slowly, not spend pads at his pace."""

from types import SimpleNamespace

import pytest

from keyferry.engine import loop
from keyferry.engine.budget import Budget
from keyferry.engine.loop import Engine
from keyferry.engine.room import Room
from qkd_core.errors import AuthenticationFailed, ChannelError
from qkd_core.types.ids import Side
from qkd_core.types.plans import SecurityPolicy


@pytest.mark.parametrize(
    ("error", "side", "longest_s"),
    [
        (AuthenticationFailed("forged"), Side.A, 300.0),
        (AuthenticationFailed("forged"), Side.B, 1.0),  # it waits for A anyway
        (ChannelError("cut"), Side.A, 1.0),
    ],
)
def test_the_side_that_begins_blocks_slows_down_after_a_forged_message(
    ends, monkeypatch, error, side, longest_s
):
    taken = []
    monkeypatch.setattr(loop.Pause, "take", lambda pause: taken.append(pause.longest_s))

    def talk(engine, transport, failing):
        raise error

    monkeypatch.setattr(Engine, "_talk", talk)
    end = ends[side]
    engine = Engine(
        end=SimpleNamespace(side=side),
        terms=None,
        blocks=end.store.blocks,
        pads=end.store.pads,
        agreement=end.store.agreement,
        room=Room(end.store.blocks, end.store.pads),
        budget=Budget(
            end.store.epsilon, SecurityPolicy(eps_sec=1e-9, eps_cor=1e-12, abort_rate=0.01)
        ),
        connect=lambda: SimpleNamespace(close=lambda: None),
        timeout_s=1.0,
        stopping=lambda: len(taken) == 3,
    )
    engine.run()
    assert taken == [longest_s] * 3
