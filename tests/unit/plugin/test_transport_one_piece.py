"""What is written in one turn of the event loop leaves at its end, in one write."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from qkd_kms_adapters.openbao_plugin.transport.one_piece import OnePiece
from qkd_kms_adapters.openbao_plugin.transport.proto import backend_pb2 as pb

sys.path.insert(0, str(Path(__file__).parent))
from transport_host import with_a_host

sys.path.pop(0)


class Written(asyncio.Transport):
    def __init__(self):
        super().__init__({"peername": "somebody"})
        self.pieces, self.over = [], False

    def write(self, data):
        assert not self.over
        self.pieces.append(bytes(data))

    def close(self):
        self.over = True


def after(use):
    async def run():
        inner = Written()
        await use(OnePiece(inner), inner)
        return inner

    return asyncio.run(run())


def test_one_turn_is_one_write_in_the_order_of_its_parts():
    async def use(piece, inner):
        for turn in range(3):
            for part in range(3):
                piece.write(b"%d%d " % (turn, part))
            assert len(inner.pieces) == turn
            await asyncio.sleep(0)

    assert after(use).pieces == [b"00 01 02 ", b"10 11 12 ", b"20 21 22 "]


def test_what_others_write_in_the_same_turn_leaves_with_it():
    async def use(piece, inner):
        async def write(number):
            piece.write(b"%d" % number)

        await asyncio.gather(*map(write, range(4)))
        await asyncio.sleep(0)

    assert b"".join(after(use).pieces) == b"0123"


def test_closing_lets_go_what_is_held_first():
    async def use(piece, inner):
        piece.write(b"the last")
        piece.write(b" words")
        piece.close()
        assert (inner.pieces, inner.over) == ([b"the last words"], True)
        await asyncio.sleep(0)

    assert after(use).pieces == [b"the last words"]


def test_it_is_the_transport_in_all_else():
    async def use(piece, inner):
        assert piece.get_extra_info("peername") == "somebody"
        with pytest.raises(AttributeError):
            piece.unheard_of()

    after(use)


def test_an_answer_is_one_write_of_the_plugin(tmp_path, monkeypatch):
    """Head, message and trailer, as long as the server's window takes them."""
    writes = []
    let_go = OnePiece._let_go

    def watched(self):
        if self._held:
            writes.append(len(self._held))
        let_go(self)

    monkeypatch.setattr(OnePiece, "_let_go", watched)

    async def use(host):
        await host.offer(1)
        assert await host.set_up(1) == ""
        await host.ask("list", "roles")
        writes.clear()
        await host.ask("list", "roles")
        assert max(writes) >= 3

    with_a_host(tmp_path, use)


@pytest.mark.parametrize("kib", [1, 300])
def test_answers_are_whole_however_long_and_however_many_at_once(tmp_path, kib):
    name = "x" * 60

    async def use(host):
        await host.offer(1)
        assert await host.set_up(1) == ""
        names = sorted(f"{name}{number}" for number in range(kib * 16))
        host.storage.kept.values = {f"roles/{each}": b"" for each in names}
        replies = await asyncio.gather(*(host.ask("list", "roles") for _ in range(8)))
        for reply in replies:
            assert json.loads(reply.response.data) == {"keys": names}
            assert reply.err == pb.ProtoError()

    with_a_host(tmp_path, use)
