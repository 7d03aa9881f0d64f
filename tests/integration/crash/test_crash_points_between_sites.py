"""Either site, killed at any I/O call while one tells the other: database and network alike."""


def test_every_call_of_taking_over_what_the_peer_says(walked):
    points = walked("taken over")
    assert len(points) == 6
    assert min(points.values()) >= 10


def test_every_call_of_telling_the_peer_over_http_at_either_end(walked):
    points = walked("over http")
    assert len(points) == 4
    assert min(points.values()) >= 15
