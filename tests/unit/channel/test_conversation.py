"""What two engines say to each other, and what an Eve on the wire can do about it."""

from dataclasses import replace

import pytest

from keyferry.channel.frames import Frame
from qkd_core.errors import AuthenticationFailed, ChannelError, PeerAborted
from qkd_core.photons.authentication import tag_of
from qkd_core.types.authentication import Lane, MessageKind
from qkd_core.types.ids import BlockId, Side

A, B = Side.A, Side.B


def test_a_tagged_message_arrives_and_is_believed(ends):
    ends[A].talk().send_tagged(MessageKind.PLAN, b"a plan")
    assert ends[B].talk().receive_tagged(MessageKind.PLAN) == b"a plan"


def test_pads_go_in_order_and_never_twice(ends):
    talk = ends[A].talk()
    for _ in range(40):
        talk.send_tagged(MessageKind.PLAN, b"the same words")
    names = [frame.trailer.name for frame in ends[A].wire.sent]
    assert names == sorted(set(names))


ALTERATIONS = {
    "body": lambda frame: frame._replace(body=frame.body[:-1] + b"?"),
    "tag": lambda frame: frame._replace(trailer=frame.trailer._replace(tag=bytes(16))),
    "kind": lambda frame: frame._replace(header=replace(frame.header, kind=MessageKind.BASES)),
    "block": lambda frame: frame._replace(header=replace(frame.header, block_id=BlockId(2))),
    "acknowledgement": lambda frame: frame._replace(
        trailer=frame.trailer._replace(verified=replace(frame.trailer.name, sender=B))
    ),
}


@pytest.mark.parametrize("what", ALTERATIONS)
def test_an_altered_message_is_refused_and_its_pad_is_burnt(ends, what):
    ends[B].wire.altered = ALTERATIONS[what]
    ends[A].talk().send_tagged(MessageKind.PLAN, b"a plan")
    kind = MessageKind.BASES if what == "kind" else MessageKind.PLAN
    talk = ends[B].talk(2 if what == "block" else 1)
    with pytest.raises(AuthenticationFailed):
        talk.receive_tagged(kind)

    ends[B].wire.altered = lambda frame: frame
    ends[A].wire.outgoing.put(ends[A].wire.sent[0])  # the true one again: too late
    with pytest.raises(AuthenticationFailed):
        ends[B].talk().receive_tagged(MessageKind.PLAN)
    ends[A].talk().send_tagged(MessageKind.PLAN, b"another plan")  # the next pad is good
    assert ends[B].talk().receive_tagged(MessageKind.PLAN) == b"another plan"


def test_a_replayed_message_is_refused(ends):
    ends[A].talk().send_tagged(MessageKind.PLAN, b"a plan")
    assert ends[B].talk().receive_tagged(MessageKind.PLAN)
    ends[A].wire.outgoing.put(ends[A].wire.sent[0])
    with pytest.raises(AuthenticationFailed):
        ends[B].talk().receive_tagged(MessageKind.PLAN)


def test_a_message_reflected_to_its_sender_is_refused(ends):
    ends[A].talk().send_tagged(MessageKind.PLAN, b"a plan")
    frame = ends[A].wire.sent[0]
    ends[A].wire.incoming.put(frame)
    with pytest.raises(AuthenticationFailed, match="to verify with"):
        ends[A].talk().receive_tagged(MessageKind.PLAN)


def test_the_acceptance_vouches_for_everything_said_before(ends):
    alice, bob = ends[A].talk(), ends[B].talk()
    alice.send(MessageKind.PARITIES, b"parities")
    assert bob.receive(MessageKind.PARITIES) == b"parities"
    bob.send(MessageKind.VERDICTS, b"verdicts")
    alice.receive(MessageKind.VERDICTS)
    alice.send_tagged(MessageKind.ACCEPTANCE, b"yes", transcript=True)
    assert bob.receive_tagged(MessageKind.ACCEPTANCE, transcript=True) == b"yes"


def test_one_altered_untagged_message_spoils_the_acceptance(ends):
    ends[B].wire.altered = lambda frame: frame._replace(body=b"Parities")
    alice, bob = ends[A].talk(), ends[B].talk()
    alice.send(MessageKind.PARITIES, b"parities")
    assert bob.receive(MessageKind.PARITIES) == b"Parities"
    ends[B].wire.altered = lambda frame: frame
    alice.send_tagged(MessageKind.ACCEPTANCE, b"yes", transcript=True)
    with pytest.raises(AuthenticationFailed):
        bob.receive_tagged(MessageKind.ACCEPTANCE, transcript=True)


def test_a_tag_that_leaves_the_transcript_out_does_not_pass_for_an_acceptance(ends):
    ends[A].talk().send_tagged(MessageKind.ACCEPTANCE, b"yes")
    with pytest.raises(ChannelError, match="transcript"):
        ends[B].talk().receive_tagged(MessageKind.ACCEPTANCE, transcript=True)


def test_a_tag_may_not_be_left_out(ends):
    talk = ends[A].talk()
    talk.send(MessageKind.PLAN, b"a plan")
    with pytest.raises(AuthenticationFailed, match="without a tag"):
        ends[B].talk().receive_tagged(MessageKind.PLAN)


def test_an_abort_is_authentic_and_says_why(ends):
    ends[A].talk().abort("LinkDown", "no light")
    with pytest.raises(PeerAborted, match="LinkDown: no light"):
        ends[B].talk().receive(MessageKind.CLICKS)

    ends[B].wire.altered = lambda frame: frame._replace(body=b"NotAccepted\nlies")
    ends[A].talk().abort("LinkDown", "no light")
    with pytest.raises(AuthenticationFailed):
        ends[B].talk().receive(MessageKind.CLICKS)


def test_late_frames_of_an_earlier_block_are_dropped(ends):
    ends[A].talk(1).send(MessageKind.PARITIES, b"late")
    ends[A].talk(2).send(MessageKind.PARITIES, b"timely")
    assert ends[B].talk(2).receive(MessageKind.PARITIES) == b"timely"


@pytest.mark.parametrize(
    ("block", "kind", "said"),
    [(2, MessageKind.PARITIES, "block 2 came, 1 is on"), (1, MessageKind.SEED, "SEED came")],
)
def test_a_message_out_of_turn_ends_the_conversation(ends, block, kind, said):
    ends[A].talk(block).send(kind, b"")
    with pytest.raises(ChannelError, match=said):
        ends[B].talk(1).receive(MessageKind.PARITIES)


def test_silence_is_an_error_after_the_deadline(ends):
    ends[B].line.timeout_s = 0.05
    with pytest.raises(ChannelError, match="silent"):
        ends[B].talk().receive(MessageKind.PARITIES)


def test_a_confirmation_uses_older_segments_only(ends, block):
    """A block's own segment must not vouch for it: the peer may not have the block."""
    for end in ends.values():
        end.store.blocks.store_pending(block(1))
        end.store.blocks.make_available(BlockId(1))
    ends[A].talk(1).send_tagged(MessageKind.CONFIRMATION, b"block 1")
    [frame] = ends[A].wire.sent
    assert frame.trailer.name.segment < 1
    assert ends[B].talk(1).receive_tagged(MessageKind.CONFIRMATION) == b"block 1"


def test_a_confirmation_under_the_block_s_own_segment_is_refused(ends, block):
    for end in ends.values():
        end.store.blocks.store_pending(block(1))

    def tagged_with_the_block(frame: Frame) -> Frame:
        """As a peer would that does not keep the rule: the tag itself is true."""
        trailer = frame.trailer._replace(
            name=replace(frame.trailer.name, segment=BlockId(1), index=0)
        )
        pad = ends[B].store.pads.expected(trailer.name)
        message = ends[B].talk(1)._message(frame.header, trailer, frame.body)
        return frame._replace(trailer=trailer._replace(tag=tag_of(pad, message)))

    ends[B].wire.altered = tagged_with_the_block
    ends[A].talk(1).send_tagged(MessageKind.CONFIRMATION, b"block 1")
    with pytest.raises(AuthenticationFailed, match="about block 1"):
        ends[B].talk(1).receive_tagged(MessageKind.CONFIRMATION)


def test_a_tag_under_a_pending_block_s_segment_makes_the_block_available(ends, block):
    """Only a site where the block is available tags with its segment."""
    for end in ends.values():
        end.store.blocks.store_pending(block(1, segment_pads=32))
    ends[A].store.blocks.make_available(BlockId(1))
    while True:  # use up segment 0
        pad = ends[A].store.pads.take(Lane.POOL, older_than=BlockId(1), proved=False)
        if pad.name.index == 1019:
            break
    ends[A].talk(2).send_tagged(MessageKind.PLAN, b"a plan")
    assert ends[A].wire.sent[0].trailer.name.segment == 1
    ends[B].talk(2).receive_tagged(MessageKind.PLAN)
    assert ends[B].store.blocks.pending() == ()
