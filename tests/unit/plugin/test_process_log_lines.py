import asyncio
import json
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from qkd_kms_adapters.openbao_plugin.process import log_lines
from qkd_kms_adapters.openbao_plugin.process.log_lines import LogLines, trace_of

OURS = "qkd_kms_adapters.openbao_plugin.somewhere"
KEY_BYTES = "a2V5LWJ5dGVz"


class Pipe:
    """Where a handler writes to, as the server reads it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def lines(self) -> list[dict[str, str]]:
        os.close(self.writer)
        with os.fdopen(self.reader) as file:
            return [json.loads(line) for line in file]


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


def a_log(name: str, handler: logging.Handler) -> logging.Logger:
    made = logging.Logger(name)  # not of the tree: no other handler hears it
    made.addHandler(handler)
    return made


def test_a_record_is_a_line_as_the_server_parses_it(pipe: Pipe) -> None:
    a_log(OURS, LogLines(pipe.writer)).info("role %s: %d keys", "backup", 3, extra={"batch": 64})

    (line,) = pipe.lines()
    stamp = line.pop("@timestamp")
    assert line == {
        "@level": "info",
        "@message": "role backup: 3 keys",
        "@module": OURS,
        "batch": "64",
    }
    assert len(stamp) == len("2026-11-30T12:00:00.000000Z")
    assert stamp[10] == "T"
    assert stamp[-8] == "."
    assert stamp[-1] == "Z"


@pytest.mark.parametrize(
    ("level", "word"),
    [("debug",) * 2, ("info",) * 2, ("warning", "warn"), ("error",) * 2, ("critical", "error")],
)
def test_levels_have_the_servers_names(pipe: Pipe, level: str, word: str) -> None:
    getattr(a_log(OURS, LogLines(pipe.writer)), level)("something")

    assert [line["@level"] for line in pipe.lines()] == [word]


def test_a_message_of_many_lines_is_one_line(pipe: Pipe) -> None:
    a_log(OURS, LogLines(pipe.writer)).info("first\nsecond")

    assert [line["@message"] for line in pipe.lines()] == ["first\nsecond"]


def test_a_log_that_nobody_reads_falls_silent_for_good() -> None:
    reader, writer = os.pipe()
    log = a_log(OURS, LogLines(writer))
    os.close(reader)

    log.error("to nobody")
    read_again, write_again = os.pipe()
    os.dup2(write_again, writer)
    os.close(write_again)
    log.error("to whoever has the descriptor now")

    os.close(writer)
    with os.fdopen(read_again) as file:
        assert file.read() == ""


def test_a_librarys_words_are_withheld_and_its_place_is_told(pipe: Pipe) -> None:
    log = a_log("hpack", LogLines(pipe.writer))

    log.warning("Decoded %s", KEY_BYTES, extra={"header": KEY_BYTES})

    (line,) = pipe.lines()
    assert KEY_BYTES not in json.dumps(line)
    assert line["@module"] == "hpack"
    assert line["@level"] == "warn"
    assert line["place"].startswith("test_process_log_lines.py:")


def test_a_failure_is_told_by_its_places_and_not_by_its_words(pipe: Pipe) -> None:
    try:
        try:
            int(KEY_BYTES)
        except ValueError as error:
            raise KeyError(KEY_BYTES) from error
    except KeyError:
        a_log(OURS, LogLines(pipe.writer)).exception("it failed")

    (line,) = pipe.lines()
    assert line["@message"] == "it failed"
    assert KEY_BYTES not in line["trace"].replace("int(KEY_BYTES)", "")
    assert "builtins.KeyError\nafter:\n" in line["trace"]
    assert line["trace"].endswith("builtins.ValueError")
    assert "int(KEY_BYTES)" in line["trace"]  # the code, not its values


def test_what_the_operating_system_said_is_told() -> None:
    try:
        open("/nowhere/at/all")
    except OSError as error:
        trace = trace_of(error)

    assert trace.endswith("builtins.FileNotFoundError (No such file or directory)")


def test_a_ring_of_causes_has_an_end() -> None:
    one, other = ValueError(), ValueError()
    one.__cause__, other.__cause__ = other, one

    assert trace_of(one).count("ValueError") == log_lines.LONGEST_CHAIN


def test_a_record_that_cannot_be_written_says_where_it_was_made(pipe: Pipe) -> None:
    a_log(OURS, LogLines(pipe.writer)).info("%d keys", KEY_BYTES)

    (line,) = pipe.lines()
    assert line["@level"] == "error"
    assert line["@message"].startswith("a record of test_process_log_lines.py:")
    assert KEY_BYTES not in json.dumps(line)


def run(code: str) -> list[dict[str, str]]:
    """What a process of its own logs."""
    begin = f"from {log_lines.__name__} import install\ninstall()\n"
    done = subprocess.run(
        [sys.executable, "-c", begin + textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


@pytest.mark.parametrize(
    "code",
    [
        "raise ValueError('a secret')",
        """
        import threading
        def fail(): raise ValueError('a secret')
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        """,
        """
        class Careless:
            def __del__(self): raise ValueError('a secret')
        Careless()
        """,
    ],
    ids=["main", "thread", "destructor"],
)
def test_an_uncaught_exception_is_an_error_in_the_servers_log(code: str) -> None:
    (line,) = run(code)

    assert line["@level"] == "error"
    assert line["@message"] == "uncaught ValueError"
    assert line["trace"].endswith("builtins.ValueError")
    assert "a secret" not in json.dumps(line)


def test_our_own_records_are_all_sent_and_a_librarys_from_warnings_up() -> None:
    lines = run(
        """
        import logging
        for name in ("qkd_kms_adapters.a", "qkd_client.b", "grpclib"):
            logging.getLogger(name).debug("a")
            logging.getLogger(name).warning("b")
        """
    )

    assert [(line["@module"], line["@level"]) for line in lines] == [
        ("qkd_kms_adapters.a", "debug"),
        ("qkd_kms_adapters.a", "warn"),
        ("qkd_client.b", "debug"),
        ("qkd_client.b", "warn"),
        ("grpclib", "warn"),
    ]


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def heard() -> Iterator[Heard]:
    handler = Heard()
    log_lines.log.addHandler(handler)
    yield handler
    log_lines.log.removeHandler(handler)


def test_a_failing_callback_is_logged_without_its_arguments(heard: Heard) -> None:
    def fail(_: Any) -> None:
        raise ValueError

    async def failing() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(log_lines.asyncio_failed)
        loop.call_soon(fail, KEY_BYTES)
        await asyncio.sleep(0.01)

    asyncio.run(failing())

    (record,) = heard.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "uncaught in the event loop"
    assert record.exc_info
    assert isinstance(record.exc_info[1], ValueError)
