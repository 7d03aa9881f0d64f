"""One token for all threads of a process; which failure is which; nothing weakens TLS."""

import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import hvac
import pytest

from qkd_core.errors import ConfigError, SinkError, SinkRejected, SinkUnavailable
from qkd_core.types.ids import Generation, KmeId, Side
from qkd_core.types.refresh import RefreshPolicy
from qkd_kms_adapters.conformance import a_key
from qkd_kms_adapters.targets import Servers
from qkd_kms_adapters.vault_kv import VaultKvSink, VaultKvTarget
from qkd_kms_adapters.vault_session import VaultSession

ONE = Generation(1)
POLICY = RefreshPolicy(
    name="payments",
    kmes=(KmeId("kme-a"), KmeId("kme-b")),
    n_bits=256,
    interval_s=3600,
    initiator=Side.A,
)
N_THREADS = 50


def test_fifty_first_calls_at_once_log_in_once(server_a) -> None:
    session, start = VaultSession(server_a.login()), Barrier(N_THREADS)
    before = tokens_of(server_a)

    def first_call(_: int) -> tuple[str, int]:
        start.wait()
        return session.run("looking", lambda client: (client.token, id(look_up(client))))

    with ThreadPoolExecutor(N_THREADS) as pool:
        seen = list(pool.map(first_call, range(N_THREADS)))
    assert len({token for token, _ in seen}) == 1
    assert len(tokens_of(server_a) - before) == 1


def test_all_policies_of_a_process_share_one_token_and_threads_no_connection(server_a) -> None:
    servers, n_policies, n_threads = Servers(), 16, 4
    targets = [server_a.new_target() for _ in range(n_policies)]
    before = tokens_of(server_a)

    def whole_run(target: VaultKvTarget) -> tuple[Generation, int]:
        sink, key = target.sink(POLICY, servers), a_key()
        sink.prepare(key, ONE)
        sink.publish(key, ONE)
        sink.agree(ONE)
        assert sink.read(ONE) == key.secret
        return sink.state()

    with ThreadPoolExecutor(n_threads) as pool:
        assert list(pool.map(whole_run, targets)) == [(1, 1)] * n_policies
        session = session_of(targets[0], servers)
        start = Barrier(n_threads)
        clients = pool.map(lambda _: (start.wait(), session._client())[1], range(n_threads))
        assert len({id(client.session) for client in clients}) == n_threads
    assert len(tokens_of(server_a) - before) == 1


def test_other_logins_at_the_same_server_have_tokens_of_their_own(server_a) -> None:
    servers, target = Servers(), server_a.new_target()
    slower = replace(target, login=replace(target.login, timeout_s=20.0))
    assert session_of(target, servers) is session_of(server_a.new_target(), servers)
    assert session_of(target, servers) is not session_of(slower, servers)


def test_a_revoked_token_is_replaced_once_for_all_threads(server_a) -> None:
    session, n_threads = VaultSession(server_a.login()), 8
    with ThreadPoolExecutor(n_threads) as pool:
        start = Barrier(n_threads)

        def token_of(_: int) -> str:
            start.wait()
            session.run("looking", look_up)
            return session.run("asking", lambda client: str(client.token))

        (old,) = set(pool.map(token_of, range(n_threads)))
        session.run("revoking", lambda client: client.auth.token.revoke_self())
        before = tokens_of(server_a)
        (new,) = set(pool.map(token_of, range(n_threads)))
        assert new != old
        assert len(tokens_of(server_a) - before) == 1


def test_no_thread_reads_from_the_past_after_a_new_login(server_a) -> None:
    clock = [0.0]
    session = VaultSession(server_a.login(), monotonic=lambda: clock[0])
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for thread in (one, other):
            thread.submit(session.run, "looking", look_up).result()
        clock[0] = 1e6
        for thread in (one, other):  # the first logs in, the second takes the token over
            assert thread.submit(session.run, "asking", index_of).result() is not None


def test_a_token_that_is_refused_when_a_thread_takes_it_over_is_replaced(server_a) -> None:
    session = VaultSession(server_a.login())

    def revoke(client: hvac.Client) -> None:
        client.auth.token.revoke_self()

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for thread in (one, other):
            thread.submit(session.run, "looking", look_up).result()
        one.submit(session.run, "revoking the first", revoke).result()
        one.submit(session.run, "looking", look_up).result()
        one.submit(session.run, "revoking the second", revoke).result()
        assert other.submit(session.run, "looking", look_up).result()  # it knows the first only


def test_a_call_that_is_denied_brings_no_new_token(server_a) -> None:
    servers, target = Servers(), server_a.new_target()
    target.sink(POLICY, servers).state()
    before = tokens_of(server_a)
    denied = replace(target, path="elsewhere/key").sink(POLICY, servers)
    for _ in range(3):
        with pytest.raises(SinkRejected, match="permission denied"):
            denied.publish(a_key(), ONE)
    assert tokens_of(server_a) == before


def test_a_token_is_kept_then_renewed_then_replaced(server_a) -> None:
    clock = [0.0]
    session = VaultSession(server_a.login(), monotonic=lambda: clock[0])
    first = session.run("at first", lambda client: client.token)
    clock[0] = 1000.0
    assert session.run("before half its life", lambda client: client.token) == first
    clock[0] = 2000.0  # past half an hour: renewed, so good for another
    assert session.run("after half its life", lambda client: client.token) == first
    clock[0] = 3700.0
    assert session.run("after its first hour", lambda client: client.token) == first
    clock[0] = 9000.0
    assert session.run("after all of it", lambda client: client.token) != first


def test_a_token_near_the_end_that_its_maker_set_is_replaced(server_a) -> None:
    clock = [0.0]
    session = VaultSession(server_a.login(), monotonic=lambda: clock[0])
    session._token = replace(token_of_session(session), first_life_s=5 * 3600.0, renew_at=10.0)
    first = session._token.value
    clock[0] = 11.0  # renewing gives it an hour, less than a quarter of what it had
    assert session.run("at the end", lambda client: client.token) != first


def test_those_who_wait_for_a_login_share_its_failure(server_a) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        session = VaultSession(replace(server_a.login(timeout_s=0.5), url=url))
        started = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(session.run, "looking", look_up) for _ in range(8)]
            failures = [call.exception() for call in calls]
        assert {type(failure) for failure in failures} == {SinkUnavailable}
        assert time.monotonic() - started < 3.0, "each waited for a timeout of its own"
        with pytest.raises(SinkUnavailable, match="Timeout"):
            session.run("looking again", look_up)


def test_wrong_credentials_are_rejected(server_a, tmp_path) -> None:
    wrong = tmp_path / "secret-id"
    wrong.write_text("00000000-0000-4000-8000-000000000000")
    with pytest.raises(SinkRejected, match="invalid role or secret ID"):
        state_with(server_a, secret_id=wrong)


def test_missing_credentials_may_come_later(server_a, tmp_path) -> None:
    with pytest.raises(SinkUnavailable, match=r"credential file .*not-yet: No such file"):
        state_with(server_a, secret_id=tmp_path / "not-yet")


def test_a_hanging_server_is_given_up_after_the_timeout(server_a, unavailable) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        login = replace(server_a.login(timeout_s=0.3), url=url)
        assert "Timeout" in unavailable(lambda: VaultSession(login).run("looking", look_up))


def test_an_answer_that_takes_too_long_is_given_up_in_the_middle(server_a, unavailable) -> None:
    session = VaultSession(server_a.login(timeout_s=1.0))
    session.run("looking", look_up)
    server_a.process.send_signal(19)  # SIGSTOP
    while not stands_still(server_a.process.pid):
        time.sleep(0.01)  # the signal was sent, and takes its time
    try:
        assert "Timeout" in unavailable(lambda: session.run("looking", look_up))
    finally:
        server_a.process.send_signal(18)  # SIGCONT
    assert session.run("looking", look_up)


def stands_still(pid: int) -> bool:
    """Whether every thread of the process is stopped."""
    tasks = Path(f"/proc/{pid}/task")
    try:
        return all(") T " in (task / "stat").read_text() for task in tasks.iterdir())
    except OSError:  # a thread ended meanwhile
        return False


def test_too_many_requests_are_passing(server_a, unavailable) -> None:
    admin, target = server_a.admin, server_a.new_target()
    sink = sink_of(target)
    sink.state()
    admin.sys.create_or_update_quota("slow", rate=0.1, path="secret", interval="1m")
    try:
        text = unavailable(lambda: [sink.state() for _ in range(12)])
    finally:
        admin.sys.delete_quota("slow")
    assert "rate limit quota exceeded" in text
    assert sink.publish(a_key(), ONE) == 1


def test_leave_that_is_withdrawn_is_a_refusal(server_b) -> None:
    target, admin = server_b.new_target(), server_b.admin
    sink = sink_of(target)
    sink.prepare(a_key(), ONE)
    rules = admin.sys.read_acl_policy("keyferry")["data"]["policy"]
    admin.sys.create_or_update_policy("keyferry", {"path": {}})
    try:
        with pytest.raises(SinkRejected, match="lacks create, read, update"):
            sink.prepare(a_key(), ONE)
        with pytest.raises(SinkRejected, match="permission denied"):
            sink.publish(a_key(), ONE)
    finally:
        admin.sys.create_or_update_policy("keyferry", rules)
    assert sink.publish(a_key(), ONE) == 1


def test_a_server_with_another_cas_certificate_is_not_spoken_to(
    server_a, server_b, monkeypatch
) -> None:
    spoil_environment(monkeypatch, str(server_b.ca))
    login = replace(server_b.login(), ca=server_a.ca)
    with pytest.raises(SinkUnavailable, match="SSLError: the server's certificate is not trusted"):
        VaultSession(login).run("looking", look_up)


def test_the_environment_is_not_read(server_a, monkeypatch) -> None:
    spoil_environment(monkeypatch, os.devnull)
    target, key = server_a.new_target(), a_key()
    sink = sink_of(target)
    sink.prepare(key, ONE)
    assert sink.publish(key, ONE) == 1


def test_a_redirection_out_of_tls_is_not_followed(server_a) -> None:
    session = VaultSession(server_a.login())
    with pytest.raises(SinkUnavailable, match="InvalidSchema"):
        session.run("looking", lambda client: client.session.get("http://127.0.0.1:1/"))


def test_odd_paths_and_timeouts_are_refused(server_a) -> None:
    for path in ("", "a//b", "../b", "a/\n"):
        with pytest.raises(ConfigError):
            VaultKvTarget(login=server_a.login(), mount="secret", path=path)
    with pytest.raises(ConfigError):
        server_a.login(timeout_s=0)


def test_failures_and_representations_show_no_secret(server_a, tmp_path) -> None:
    session = VaultSession(server_a.login())
    token = session.run("asking", lambda client: client.token)
    wrong = tmp_path / "secret-id"
    wrong.write_text("a-secret-id-that-is-not-to-be-shown")
    with pytest.raises(SinkError) as caught:
        state_with(server_a, secret_id=wrong)
    shown = f"{session!r} {session._token!r} {session._login!r} {caught.value} {caught.value!r}"
    assert token not in shown and "not-to-be-shown" not in shown
    assert server_a.files.secret_id.read_text() not in shown


def spoil_environment(monkeypatch: pytest.MonkeyPatch, bundle: str) -> None:
    for name, value in {
        "VAULT_TOKEN": "s.from-the-environment",
        "VAULT_ADDR": "http://127.0.0.1:1",
        "VAULT_SKIP_VERIFY": "true",
        "VAULT_NAMESPACE": "elsewhere",
        "VAULT_CACERT": bundle,
        "VAULT_CAPATH": bundle,
        "VAULT_CLIENT_CERT": bundle,
        "VAULT_CLIENT_KEY": bundle,
        "REQUESTS_CA_BUNDLE": bundle,
        "CURL_CA_BUNDLE": bundle,
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "ALL_PROXY": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)


def sink_of(target: VaultKvTarget) -> VaultKvSink:
    return target.sink(POLICY, Servers())


def session_of(target: VaultKvTarget, servers: Servers) -> VaultSession:
    return target.sink(POLICY, servers)._session


def token_of_session(session: VaultSession) -> Any:
    session.run("looking", look_up)
    return session._token


def state_with(server: Any, **files: Any) -> object:
    target = server.new_target()
    login = replace(target.login, method=replace(target.login.method, **files))
    return sink_of(replace(target, login=login)).state()


def index_of(client: hvac.Client) -> str | None:
    """What the next request says that it must see."""
    index: str | None = client.session.headers.get("X-Vault-Index")
    return index


def look_up(client: hvac.Client) -> object:
    return client.auth.token.lookup_self()


def tokens_of(server: Any) -> set[str]:
    """The accessors of all tokens, as long as they live."""
    listed: Callable[..., Any] = server.admin.auth.token.list_accessors
    return set(listed()["data"]["keys"])
