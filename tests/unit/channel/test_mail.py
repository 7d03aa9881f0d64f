"""Frames of several blocks over one connection: each to its block, tagged ones in their order."""

import random
import time
from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, Queue
from threading import Event, Lock, Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyferry.channel import mail as mail_module
from keyferry.channel.frames import Frame, Header, Trailer
from keyferry.channel.mail import EARLY_LIMIT, UNREAD_LIMIT, Mail
from qkd_core.errors import ChannelError, Silent
from qkd_core.types.authentication import TAG_BYTES, Lane, MessageKind, PadName
from qkd_core.types.ids import BlockId, Side

CLOSED = object()
COMES, SILENT = 5.0, 0.02  # seconds to wait for what comes, and for what does not


class Wire:
    """A connection of which one end is a queue. ``readers``: how many read at the same time."""

    def __init__(self, frames=()):
        self.coming = Queue()
        for each in frames:
            self.coming.put(each)
        self.closed = Event()
        self.readers = self.most_readers = 0
        self.lock = Lock()

    def send(self, frame):
        raise NotImplementedError

    def receive(self, timeout_s):
        with self.lock:
            self.readers += 1
            self.most_readers = max(self.most_readers, self.readers)
        try:
            got = self.coming.get(timeout=timeout_s)
        except Empty:
            raise Silent("the peer is silent") from None
        finally:
            with self.lock:
                self.readers -= 1
        if got is CLOSED:
            raise ChannelError("the peer closed the connection")
        return got

    def close(self):
        self.closed.set()
        self.coming.put(CLOSED)


def frame(block, body=b"", *, tagged=False):
    header = Header(MessageKind.PARITIES, int(tagged), BlockId(block), BlockId(0), len(body))
    name = PadName(Side.B, Lane.POOL, BlockId(0), 0)
    return Frame(header, body, Trailer(name, None, bytes(TAG_BYTES)) if tagged else None)


def mail_of(*frames, opened=(), turn_s=COMES):
    wire = Wire(frames)
    mail = Mail(wire, turn_s)
    for block in opened:
        mail.open(BlockId(block))
    return wire, mail


def bodies(mail, block, n):
    return [mail.next(BlockId(block), COMES).frame.body for _ in range(n)]


@st.composite
def schedules(draw):
    """Frames of up to four blocks, mixed, and the order in which their readers come."""
    counts = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    order = draw(st.permutations([b for b, n in enumerate(counts, 1) for _ in range(n)]))
    readers = draw(st.permutations(order))
    return order, readers


@settings(max_examples=150, deadline=None)
@given(schedules())
def test_each_block_gets_its_frames_in_their_order_whatever_the_interleaving(schedule):
    order, readers = schedule
    sent = defaultdict(deque)
    frames = []
    for number, block in enumerate(order):
        body = number.to_bytes(2, "big")
        sent[block].append(body)
        frames.append(frame(block, body))
    _, mail = mail_of(*frames, opened=sorted(set(order)))

    for block in readers:
        assert mail.next(BlockId(block), COMES).frame.body == sent[block].popleft()
    with pytest.raises(Silent):
        mail.next(BlockId(order[0]), 0.0)


@settings(max_examples=100, deadline=None)
@given(schedules(), st.lists(st.booleans(), min_size=24, max_size=24))
def test_turns_go_in_the_order_of_arrival_across_blocks(schedule, tagged):
    """Whatever is read first, and what is dropped: the others wait no longer for it."""
    order, readers = schedule
    wanted = [number for number, _ in enumerate(order) if tagged[number]]
    frames = [
        frame(block, bytes([number]), tagged=tagged[number]) for number, block in enumerate(order)
    ]
    _, mail = mail_of(*frames, opened=sorted(set(order)))
    letters = [mail.next(BlockId(block), COMES) for block in readers]

    verified = []

    def verify(letter):
        if letter.frame.trailer is None:
            return
        if letter.frame.body[0] % 3 == 2:
            mail.drop(letter)
            return
        with mail.turn(letter):
            verified.append(letter.frame.body[0])

    with ThreadPoolExecutor(len(letters)) as pool:
        list(pool.map(verify, letters))
    assert verified == [number for number in wanted if number % 3 != 2]


def test_a_block_that_is_closed_or_never_opened_holds_up_no_turn():
    _, mail = mail_of(
        frame(1, b"unread", tagged=True),
        frame(1, b"read", tagged=True),
        frame(2, b"two", tagged=True),
        frame(1, b"late", tagged=True),
        frame(2, b"three", tagged=True),
        opened=(1, 2),
    )
    two = mail.next(BlockId(2), COMES)
    mail.close(BlockId(1))
    with mail.turn(two):
        pass
    with mail.turn(mail.next(BlockId(2), COMES)):
        pass
    with pytest.raises(ChannelError, match="the conversation of block 1 is over"):
        mail.next(BlockId(1), COMES)


def test_early_frames_wait_for_their_block():
    _, mail = mail_of(frame(1, b"x"), frame(2, b"a"), frame(1, b"y"), frame(2, b"b"), opened=(1,))
    assert bodies(mail, 1, 2) == [b"x", b"y"]
    with pytest.raises(Silent):
        mail.next(BlockId(1), SILENT)
    mail.open(BlockId(2))
    assert bodies(mail, 2, 2) == [b"a", b"b"]


def test_a_peer_that_skips_a_block_is_found_out_at_once():
    """Block 1 was never heard of and 2 came; then 2 is heard, and 4 comes."""
    for heard, came in ((False, 2), (True, 3)):
        _, mail = mail_of(*([frame(1)] if heard else []), frame(came), opened=(1,))
        with pytest.raises(ChannelError, match=f"block {came} came, 1 is on"):
            bodies(mail, 1, 2)
    _, mail = mail_of(frame(3), frame(0), opened=(0,))
    bodies(mail, 0, 1)
    with pytest.raises(ChannelError, match="block 3 came, 2 is on"):
        mail.open(BlockId(2))


def test_earlier_blocks_that_were_never_opened_are_dropped():
    """After settling the numbers have moved on; what was begun before is not taken up again."""
    _, mail = mail_of(frame(3, tagged=True), frame(0, tagged=True), opened=(0,))
    letter = mail.next(BlockId(0), COMES)
    mail.open(BlockId(5))
    with mail.turn(letter):
        pass


def test_a_turn_behind_a_frame_that_nobody_reads_comes_to_an_end():
    _, mail = mail_of(frame(2, tagged=True), frame(1, tagged=True), opened=(1,), turn_s=0.05)
    mail._boxes[BlockId(1)].heard = True
    letter = mail.next(BlockId(1), COMES)
    with (
        pytest.raises(ChannelError, match="came earlier is still unread"),
        mail.turn(letter),
    ):
        raise AssertionError


def test_when_no_more_blocks_are_opened_their_frames_hold_up_no_turn():
    wire, mail = mail_of(frame(1), frame(2, tagged=True), frame(1, tagged=True), opened=(1,))
    mail.next(BlockId(1), COMES)
    letter = mail.next(BlockId(1), COMES)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: mail.turn(letter).__enter__())
        mail.open_no_more()
        waiting.result(1.0)
    mail.drop(letter)
    for each in (frame(2, tagged=True), frame(77, tagged=True), frame(1, b"on", tagged=True)):
        wire.coming.put(each)
    last = mail.next(BlockId(1), COMES)
    assert last.frame.body == b"on"
    with mail.turn(last):
        pass


@pytest.mark.parametrize("block", [1, 2])
def test_what_nobody_reads_is_bounded_in_number(block):
    limit = {1: UNREAD_LIMIT, 2: EARLY_LIMIT}[block]
    wire, mail = mail_of(frame(1, b"first"), opened=(1, 0))
    assert bodies(mail, 1, 1) == [b"first"]
    for _ in range(limit):
        wire.coming.put(frame(block))
    with pytest.raises(Silent):
        mail.next(BlockId(0), SILENT)
    wire.coming.put(frame(block))
    with pytest.raises(ChannelError, match=f"block {block} (are unread|came too early)"):
        mail.next(BlockId(0), COMES)


@pytest.mark.parametrize("block", [1, 2])
def test_what_nobody_reads_is_bounded_in_bytes(block, monkeypatch):
    monkeypatch.setattr(mail_module, "UNREAD_BYTES", 1000)
    wire, mail = mail_of(frame(1), opened=(1, 0))
    mail.next(BlockId(1), COMES)
    for _ in range(3):
        wire.coming.put(frame(block, bytes(500)))
    with pytest.raises(ChannelError, match=f"block {block} (are unread|came too early)"):
        mail.next(BlockId(0), COMES)


def test_one_that_has_waited_long_enough_hands_the_reading_on():
    """The first reader gives up; another one, which waits for longer, gets its frame."""
    wire, mail = mail_of(opened=(1, 2, 3))
    with ThreadPoolExecutor(3) as pool:
        short = pool.submit(mail.next, BlockId(1), 0.1)
        time.sleep(0.02)  # the first to come reads
        others = [pool.submit(mail.next, BlockId(block), 5.0) for block in (2, 3)]
        with pytest.raises(Silent):
            short.result(2.0)
        wire.coming.put(frame(3, b"three"))
        assert others[1].result(1.0).frame.body == b"three"
        wire.coming.put(frame(2, b"two"))
        assert others[0].result(1.0).frame.body == b"two"
    assert wire.most_readers == 1


@pytest.mark.parametrize("by", ["peer", "fail"])
def test_a_break_wakes_all_that_wait(by):
    """Also the one that reads, and one that waits for its turn."""
    wire, mail = mail_of(frame(4, tagged=True), frame(5, tagged=True), opened=(1, 2, 3, 4, 5))
    mail.next(BlockId(4), COMES)
    behind = mail.next(BlockId(5), COMES)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(mail.next, BlockId(block), 30.0) for block in (1, 2, 3)]
        waiting.append(pool.submit(lambda: mail.turn(behind).__enter__()))
        time.sleep(0.05)
        begun = time.monotonic()
        if by == "peer":
            wire.coming.put(CLOSED)
        else:
            mail.fail(ChannelError("the peer closed the connection"))
        for each in waiting:
            with pytest.raises(ChannelError, match="the peer closed the connection"):
                each.result(5.0)
        assert time.monotonic() - begun < 2
    with pytest.raises(ChannelError, match="the peer closed the connection"):
        mail.next(BlockId(1), COMES)


def test_what_came_before_a_break_is_still_read():
    _, mail = mail_of(frame(1, b"last"), opened=(1, 2))
    with pytest.raises(Silent):
        mail.next(BlockId(2), SILENT)
    mail.fail(ChannelError("given up"))
    assert bodies(mail, 1, 1) == [b"last"]
    with pytest.raises(ChannelError, match="given up"):
        mail.next(BlockId(1), COMES)


def test_no_wake_up_is_lost_among_many_threads():
    """16 blocks, 60 frames each, in a random order and at a random pace; 20 s at most."""
    n_blocks, n_frames, rng = 16, 60, random.Random(5)
    order = [block for block in range(1, n_blocks + 1) for _ in range(n_frames)]
    rng.shuffle(order)
    wire, mail = mail_of(opened=range(1, n_blocks + 1))
    seen, verified = defaultdict(list), []

    def read(block):
        for _ in range(n_frames):
            letter = mail.next(BlockId(block), 15.0)
            number = int.from_bytes(letter.frame.body, "big")
            seen[block].append(number)
            if letter.frame.trailer is not None:
                with mail.turn(letter):
                    verified.append(number)

    def feed():
        for number, block in enumerate(order):
            wire.coming.put(frame(block, number.to_bytes(2, "big"), tagged=number % 5 == 0))
            if number % 37 == 0:
                time.sleep(0.001)

    with ThreadPoolExecutor(n_blocks) as pool:
        feeder = Thread(target=feed)
        feeder.start()
        readers = [pool.submit(read, block) for block in range(1, n_blocks + 1)]
        for each in readers:
            each.result(20.0)
        feeder.join()
    assert all(numbers == sorted(numbers) for numbers in seen.values())
    assert verified == list(range(0, len(order), 5))
    assert wire.most_readers == 1
