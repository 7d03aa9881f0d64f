"""Whatever goes wrong inside, the caller gets the standard's answer and the log no secret."""

import logging

import pytest
from werkzeug.exceptions import NotFound

from qkd_api import problems
from qkd_core import errors
from qkd_core.errors import QkdError

STATUS = "/api/v1/keys/sae-b1/status"
ENC_KEYS = "/api/v1/keys/sae-b1/enc_keys"
EVERY_ERROR = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, QkdError)
]


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.fixture
def broken(kme, monkeypatch):
    """A KME whose store raises what the test says."""

    def break_with(error):
        monkeypatch.setattr(kme.store.pool, "level", raising(error))
        return kme

    return break_with


def test_an_unexpected_error_is_503_and_shows_nothing_of_itself(broken, caplog):
    answer = broken(ValueError("c2VjcmV0IGtleQ==")).ask("GET", STATUS)

    assert answer.status_code == 503
    assert answer.json == {"message": "the KME cannot answer at present"}
    assert int(answer.headers["Retry-After"]) >= 1
    assert "c2VjcmV0" not in caplog.text + answer.text
    assert "ValueError" in caplog.text and "issuing.py" in caplog.text


def test_an_error_of_the_store_is_for_the_operator_only(broken, caplog):
    answer = broken(errors.AuditUnavailable("disk full at /var/lib/keyferry")).ask("GET", STATUS)

    assert answer.status_code == 503
    assert "/var/lib" not in answer.text
    assert "/var/lib/keyferry" in caplog.text


def test_a_path_cannot_forge_a_log_line(kme, caplog):
    kme.app.add_url_rule("/api/boom/<x>", view_func=raising(errors.AuditUnavailable("x")))

    kme.ask("GET", "/api/boom/a%0Aforged")

    assert all("\n" not in record.getMessage() for record in caplog.records)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("kind", EVERY_ERROR, ids=lambda kind: kind.__name__)
def test_every_error_of_ours_has_a_status_that_the_standard_knows(kind):
    made = kind.__new__(kind)

    assert problems.status_of(made) in (400, 401, 503)


def test_no_error_answer_has_a_traceback_or_html(broken):
    for error in (RuntimeError("x"), RecursionError("x"), MemoryError("x"), NotFound("x")):
        answer = broken(error).ask("GET", STATUS)

        assert answer.content_type == "application/json"
        assert "Traceback" not in answer.text
        assert answer.status_code in (404, 503)


def test_error_answers_are_counted_by_code(kme):
    kme.ask("GET", f"{ENC_KEYS}?number=0")
    kme.ask("GET", f"{ENC_KEYS}?number=0")
    kme.ask("GET", STATUS, sae="stranger")
    kme.ask("GET", STATUS)

    counted = {
        code: kme.registry.get_sample_value("keyferry_http_errors_total", {"code": code})
        for code in ("400", "401", "200")
    }

    assert counted == {"400": 2, "401": 1, "200": None}


def test_no_key_bytes_and_no_bodies_are_logged(kmes, caplog):
    a, b = kmes
    with caplog.at_level(logging.DEBUG):
        key = a.enc_keys().json["keys"][0]
        b.dec_keys(key["key_ID"])
        a.enc_keys(number="not logged")

    assert key["key"] not in caplog.text
    assert "not logged" not in caplog.text
