from pathlib import Path

import pytest

from qkd_core.errors import ConfigError
from qkd_sim_link.tokens import checked_socket_path, read_token, write_token


def test_a_new_token_is_private_and_random(tmp_path):
    write_token(tmp_path / "a")
    write_token(tmp_path / "b")

    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert len(read_token(tmp_path / "a")) == 32
    assert read_token(tmp_path / "a") != read_token(tmp_path / "b")


def test_an_existing_token_is_not_overwritten(tmp_path):
    write_token(tmp_path / "a")
    before = read_token(tmp_path / "a")

    with pytest.raises(ConfigError, match="cannot be made"):
        write_token(tmp_path / "a")

    assert read_token(tmp_path / "a") == before


def test_a_token_that_others_can_read_is_refused(tmp_path):
    write_token(tmp_path / "a")
    (tmp_path / "a").chmod(0o640)

    with pytest.raises(ConfigError, match="mode 0640, at most 0600"):
        read_token(tmp_path / "a")


@pytest.mark.parametrize("n_bytes", [0, 31, 33])
def test_a_token_of_another_length_is_refused(tmp_path, n_bytes):
    path = tmp_path / "a"
    path.touch(0o600)
    path.write_bytes(b"x" * n_bytes)

    with pytest.raises(ConfigError, match="exactly 32 bytes"):
        read_token(path)


def test_a_missing_token_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone: cannot be read"):
        read_token(tmp_path / "gone")


def test_a_socket_path_may_have_107_bytes():
    assert checked_socket_path(Path("/" + "x" * 106)) == "/" + "x" * 106
    with pytest.raises(ConfigError, match="108 bytes, a unix socket allows 107"):
        checked_socket_path(Path("/" + "x" * 107))
