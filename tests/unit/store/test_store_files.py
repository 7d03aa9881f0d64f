import sqlite3
import stat
import threading
from contextlib import closing, suppress

import pytest

from keyferry.audit.export import export
from keyferry.store.checks.examples import (
    LATER,
    MASTER,
    NOW,
    SLAVE,
    a_block,
    a_claim,
    a_preshared_secret,
    a_request,
)
from keyferry.store.connection import REQUIRED, check_pragmas, connect, prepare_file
from keyferry.store.sealing import new_root_key, read_root_key
from keyferry.store.turnstile import PLACES
from qkd_core.errors import AuditUnavailable, ConfigError, StoreDamaged
from qkd_core.keys.allocation import cut_block
from qkd_core.types.authentication import Lane
from qkd_core.types.bits import packed_bytes
from qkd_core.types.ids import BlockId, KmeId, LinkId, Side


def fill(store):
    """Some of everything that a store seals."""
    for number in (1, 2):
        store.blocks.store_pending(a_block(number))
        store.blocks.make_available(BlockId(number))
    store.blocks.store_pending(a_block(3))
    store.pads.install_preshared(a_preshared_secret())
    store.pads.take(Lane.POOL, older_than=None, proved=False)
    store.allocations.deliver(a_request(5), LATER)
    store.allocations.hold(a_request(2), LATER)
    store.allocations.accept(a_claim("peer's", (1, 2048, 2100), owner=Side.B))
    store.allocations.deliver_by_id(SLAVE, MASTER, ["peer's"], NOW)
    store.allocations.accept(a_claim("waits", (1, 2100, 2200), owner=Side.B))


def pieces(secret: bytes, length: int = 8) -> set[bytes]:
    """Every aligned piece; by chance one is in a file with probability below 1e-8."""
    return {secret[i : i + length] for i in range(0, len(secret) - length + 1, length)}


def test_no_key_byte_stands_in_clear_in_any_file(tmp_path, open_site):
    store = open_site(writer="engine")
    fill(store)
    secrets = set().union(*(pieces(packed_bytes(b.bits, b.layout.n_secret)) for b in blocks()))
    secrets |= pieces(a_preshared_secret())

    files = list((tmp_path / Side.A).iterdir())
    lock_files = {f"keys.db{place}" for place in PLACES}
    assert {file.name for file in files} == {"keys.db", "keys.db-wal", "keys.db-shm", *lock_files}
    for file in files:
        assert not secrets & all_windows(file.read_bytes())
    store.close()
    assert not secrets & all_windows((tmp_path / Side.A / "keys.db").read_bytes())
    audit = "\n".join(export(tmp_path / Side.A / "keys.db"))
    assert "key_delivered" in audit
    assert not any(secret.hex() in audit for secret in secrets)


def blocks():
    return [a_block(number) for number in (1, 2, 3)]


def all_windows(data: bytes, length: int = 8) -> set[bytes]:
    return {data[i : i + length] for i in range(len(data) - length + 1)}


def test_the_search_for_clear_bytes_would_find_them():
    secret = cut_block(a_block(1)).stored
    assert pieces(secret) & all_windows(b"xyz" + secret[64:96])


def test_only_the_owner_may_read_the_files(tmp_path, open_site):
    fill(open_site())
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in [tmp_path / Side.A, *(tmp_path / Side.A).iterdir(), tmp_path / "a.key"]
    }
    assert modes.pop("a") == 0o700
    assert set(modes.values()) == {0o600}
    assert len(modes) == 4 + len(PLACES)


@pytest.mark.parametrize("place", ["a", "a/keys.db", "a.key"])
def test_files_that_others_may_read_are_refused(tmp_path, open_site, place):
    open_site().close()
    (tmp_path / place).chmod(0o740)
    with pytest.raises(ConfigError, match="has mode 0740"):
        open_site()


def test_a_root_key_is_not_overwritten(tmp_path):
    new_root_key(tmp_path / "root")
    with pytest.raises(FileExistsError):
        new_root_key(tmp_path / "root")


def test_a_root_key_in_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="root: cannot be written: No such file"):
        new_root_key(tmp_path / "none" / "root")


def test_a_missing_or_short_root_key_is_refused(tmp_path, open_site):
    with pytest.raises(ConfigError, match="cannot be read"):
        open_site(root_key=tmp_path / "none")
    (tmp_path / "short").touch(mode=0o600)
    with pytest.raises(ConfigError, match="has 0 bytes, it needs 32"):
        open_site(root_key=tmp_path / "short")


def test_another_root_key_does_not_open_the_store(tmp_path, open_site):
    fill(open_site())
    new_root_key(tmp_path / "other")
    with pytest.raises(ConfigError, match="does not open this store"):
        open_site(root_key=tmp_path / "other")


def test_another_sites_store_is_refused(open_site):
    open_site().close()
    with pytest.raises(ConfigError, match="belongs to example-link a kme-a"):
        open_site(link_id=LinkId("another"))
    with pytest.raises(ConfigError, match="belongs to example-link a kme-a"):
        open_site(kme_id=KmeId("another"))


@pytest.mark.parametrize("version", [1, 99])
def test_another_schema_is_refused(tmp_path, open_site, version):
    open_site().close()
    with closing(sqlite3.connect(tmp_path / "a" / "keys.db")) as connection, connection:
        connection.execute("UPDATE site SET schema_version = ?", (version,))
    with pytest.raises(ConfigError, match=f"schema version {version}, this program needs"):
        open_site()


def test_a_role_is_one_word(open_site):
    with pytest.raises(ConfigError, match="not a word"):
        open_site(writer="api-1")


def test_a_file_that_is_no_database_is_refused(tmp_path, open_site):
    (tmp_path / "a").mkdir(mode=0o700)
    (tmp_path / "a" / "keys.db").touch(mode=0o600)
    (tmp_path / "a" / "keys.db").write_bytes(b"not a database" * 100)
    with pytest.raises(AuditUnavailable, match="does not open"):
        open_site()


def test_every_connection_of_a_process_survives_a_loss_of_power(tmp_path, open_site, monkeypatch):
    """The values stand here as numbers, so that a weaker table of them is found out."""
    opened = []
    connect_to = sqlite3.connect

    def remembered(*arguments, **more):
        opened.append(connect_to(*arguments, **more))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", remembered)
    fill(open_site())
    durable = {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "foreign_keys": 1}
    alive = 0
    for connection in opened:
        with suppress(sqlite3.ProgrammingError):  # closed again
            for name, value in durable.items():
                assert connection.execute(f"PRAGMA {name}").fetchone()[0] == value
            alive += 1
    assert alive >= 2  # the writer's and a reader's


@pytest.mark.parametrize("name", ["synchronous", "secure_delete", "foreign_keys", "busy_timeout"])
def test_a_connection_without_a_required_setting_is_refused(tmp_path, name):
    prepare_file(tmp_path / "s" / "x.db")
    with closing(connect(tmp_path / "s" / "x.db")) as connection:
        check_pragmas(connection)
        connection.execute(f"PRAGMA {name} = 0")
        with pytest.raises(ConfigError, match=f"{name} = 0, this store needs {REQUIRED[name]}"):
            check_pragmas(connection)


def test_sealed_bytes_that_were_moved_do_not_open(tmp_path, open_site):
    store = open_site()
    fill(store)
    with closing(sqlite3.connect(tmp_path / "a" / "keys.db")) as connection, connection:
        connection.execute(
            "UPDATE chunks SET sealed ="
            " (SELECT sealed FROM chunks WHERE block_id = 2 AND chunk = 0)"
            " WHERE block_id = 1 AND chunk = 0"
        )
    free = store.blocks.free_bytes()
    with pytest.raises(StoreDamaged, match="do not open"):
        store.allocations.deliver(a_request(), LATER)
    assert store.blocks.free_bytes() == free


def test_an_empty_place_may_be_opened_by_many_at_once(tmp_path, open_site):
    """Threads stand in for processes: each opens connections of its own, nothing is shared."""
    stores, errors = [], []
    new_root_key(tmp_path / "a.key")
    gate = threading.Barrier(6)

    def open_one(role):
        gate.wait()
        try:
            stores.append(open_site(writer=role))
        except Exception as error:
            errors.append(error)

    roles = ("api", "jobs", "engine", "api", "cli", "cli")
    threads = [threading.Thread(target=open_one, args=(role,)) for role in roles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(stores) == len(roles)
    for store in stores:
        store.blocks.note_used(BlockId(1))
    chains = stores[0].database.rows("SELECT role, number FROM chains ORDER BY 1, 2")
    assert chains == [("api", 1), ("api", 2), ("cli", 1), ("cli", 2), ("engine", 1), ("jobs", 1)]


def test_a_root_key_that_was_being_erased_opens_no_store(tmp_path):
    """A kill may come between the zeros and the end of the file."""
    root = tmp_path / "root.key"
    new_root_key(root)
    read_root_key(root)
    root.write_bytes(bytes(len(root.read_bytes())))
    with pytest.raises(ConfigError, match="erased"):
        read_root_key(root)
