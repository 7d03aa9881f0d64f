"""A batch crosses the wire as it is; what is no batch is refused by name."""

import json
from fractions import Fraction

import numpy as np
import pytest

from qkd_sim_link.drivers.batch_message import as_batch, as_message
from qkd_sim_link.drivers.contract import made
from qkd_sim_link.formats.native import Chain, Stream
from qkd_sim_link.formats.recording import TAG
from qkd_sim_link.wire import Malformed, Message

STREAM = Stream(link="test", side="b", driver="test", tick=Fraction(1, 3), cfg_digest="d")


def batch_of(n: int = 5):
    tags = np.zeros(n, TAG)
    tags["t"] = np.arange(n)
    tags["det"] = 3
    return made(Chain(STREAM), 7, tags, n)


def over_the_wire(message: Message) -> Message:
    return Message(json.loads(json.dumps(message.header)), message.arrays)


@pytest.mark.parametrize("n", [0, 1, 1000])
def test_a_batch_comes_as_it_was_sent(n):
    sent = batch_of(n)
    message = over_the_wire(as_message(sent, more=True))
    found = as_batch(message)

    assert message.header["more"] is True
    assert (found.stream, found.header, found.sha256) == (sent.stream, sent.header, sent.sha256)
    np.testing.assert_array_equal(found.tags, sent.tags)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"epoch": "7"}, "item 'epoch' of a batch must be of type int"),
        ({"epoch": True}, "item 'epoch' of a batch must be of type int"),
        ({"sorted": 1}, "item 'sorted' of a batch must be of type bool"),
        ({"watermark": 1 << 63}, "item 'watermark' of a batch must be from"),
        ({"missed": -1}, "item 'missed' of a batch must be from 0"),
        ({"tick": "1/0"}, "item 'tick' of a batch must be a fraction"),
        ({"side": None}, "item 'side' of a batch must be of type str"),
    ],
)
def test_what_is_no_header_is_refused(change, told):
    message = as_message(batch_of(), more=False)
    header = dict(message.header)
    header["batch"] = header["batch"] | change
    with pytest.raises(Malformed, match=told):
        as_batch(Message(header, message.arrays))


def test_what_is_no_batch_is_refused():
    message = as_message(batch_of(), more=False)
    with pytest.raises(Malformed, match="item 'batch' must be an object"):
        as_batch(Message({**message.header, "batch": []}, message.arrays))
    with pytest.raises(Malformed, match="item 'sha256'"):
        as_batch(Message({**message.header, "sha256": 1}, message.arrays))
    with pytest.raises(Malformed, match="59 bytes are no whole number of tags"):
        as_batch(Message(message.header, (message.arrays[0][:-1],)))
    with pytest.raises(Malformed, match="array 0 must be there"):
        as_batch(Message(message.header, ()))
