"""The audit as others read it: JSON lines, RFC 5424, OTLP, and bundles that verify elsewhere."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from keyferry.audit.chain import Record, read_line
from keyferry.audit.export import FORMATS, export
from keyferry.audit.offline import store_at, stores_below
from keyferry.audit.otlp import BATCH, Collector, Exporter, logs_of, post_all
from keyferry.audit.syslog import syslog_line
from keyferry.audit.verify import verify
from keyferry.jobs.auditing import Exporting
from keyferry.store.checks.examples import LATER, a_request
from qkd_core.errors import CollectorUnavailable, ConfigError

# RFC 5424, section 6: HEADER with its fields, one SD-ELEMENT with escaped values, then MSG.
MESSAGE = re.compile(
    r"<(?P<pri>\d{1,3})>1 (?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (?P<host>[!-~]{1,255})"
    r" (?P<app>[!-~]{1,48}) (?P<proc>[!-~]{1,128}) (?P<msgid>[!-~]{1,32})"
    r' \[(?P<id>[!-~]{1,32}?)(?P<params>( [a-z]{1,32}="([^"\\\]]|\\["\\\]])*")+)\] (?P<msg>.*)'
)


class Receiver(HTTPServer):
    """A collector that takes what it is sent, or answers as it is told."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.answers = [], []
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1/logs"

    @property
    def taken(self):
        """The log records of every request that was answered with success."""
        return [
            record
            for path, body, status in self.requests
            for record in body["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
            if status == 200
        ]

    def end(self):
        self.shutdown()
        self.thread.join()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["Content-Type"] == "application/json"
        status, answer = self.server.answers.pop(0) if self.server.answers else (200, {})
        self.server.requests.append((self.path, body, status))
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


@pytest.fixture
def receiver():
    server = Receiver()
    yield server
    server.end()


@pytest.fixture
def site(make_site):
    made = make_site()
    made.blocks(1)
    made.store.allocations.deliver(a_request(3), LATER)
    made.checkpoints.make()
    made.note(2)
    return made


# ------------------------------------------------------------------------------------- JSON lines
def test_a_line_holds_its_mac_and_can_be_read_again(site):
    lines = list(export(site.path))
    assert len(lines) == verify(site.path).n_records
    for line in lines:
        record = read_line(line)
        assert record.recomputed == record.hash
        assert len(record.mac) == 64


@pytest.mark.parametrize(
    "line", ["", "{}", "[]", "null", "7", '{"event":{}}', "{" * 3000, '{"chain":"a"} ']
)
def test_a_line_that_is_no_record_is_refused(line):
    with pytest.raises(ValueError, match=r"audit record|Expecting"):
        read_line(line)


# --------------------------------------------------------------------------------------- RFC 5424
def test_every_syslog_message_has_the_form_of_rfc_5424(site):
    for line in export(site.path, "rfc5424"):
        message = MESSAGE.fullmatch(line)
        assert message, line
        assert (message["pri"], message["host"], message["app"]) == ("110", "kme-a", "keyferry")
        assert message["id"] == "audit@32473"
        assert message["msgid"] == json.loads(message["msg"])["action"][:32]


def test_an_alarm_has_a_higher_severity_and_odd_names_are_escaped():
    event = '{"action":"audit_alarm","fields":{}}'
    line = syslog_line(Record('odd "]\\ chain', 1, 0.5, event, "", "00"), "kme é")
    message = MESSAGE.fullmatch(line)
    assert message["pri"] == "108"
    assert message["host"] == "kme__"
    assert r'chain="odd \"\]\\ chain"' in message["params"]
    assert message["time"] == "1970-01-01T00:00:00.500000Z"


# ------------------------------------------------------------------------------------------- OTLP
def test_a_running_site_posts_each_record_once_and_goes_on_later(site, receiver):
    work = Exporting(Exporter(site.store.database, Collector(receiver.url))).work
    work()
    first = verify(site.path).n_records
    assert len(receiver.taken) == first
    work()
    assert len(receiver.taken) == first
    site.note(2)
    work()
    assert len(receiver.taken) == first + 2


def test_a_post_is_an_export_request_of_logs(site, receiver):
    post_all(site.path, Collector(receiver.url))
    path, body, _ = receiver.requests[0]
    assert path == "/v1/logs"
    (resource,) = body["resourceLogs"]
    assert resource["resource"]["attributes"] == [
        {"key": "service.name", "value": {"stringValue": "keyferry"}},
        {"key": "service.instance.id", "value": {"stringValue": "kme-a"}},
    ]
    delivered = next(r for r in receiver.taken if r["eventName"] == "key_delivered")
    assert delivered["timeUnixNano"] == "1800000000000000000"
    assert (delivered["severityNumber"], delivered["severityText"]) == (9, "INFO")
    attributes = {each["key"]: each["value"] for each in delivered["attributes"]}
    assert attributes["n_bits"] == {"intValue": "256"}
    assert attributes["slaves"] == {"arrayValue": {"values": [{"stringValue": "sae-b"}]}}
    assert attributes["expires_at"] == {"doubleValue": LATER}
    assert attributes["audit.chain"] == {"stringValue": "jobs-1"}
    assert json.loads(delivered["body"]["stringValue"])["action"] == "key_delivered"


def test_more_than_one_batch_is_posted_in_several_requests(site, receiver):
    site.note(BATCH + 5)
    n_records = verify(site.path).n_records
    Exporting(Exporter(site.store.database, Collector(receiver.url))).work()
    assert len(receiver.taken) == n_records
    assert len(receiver.requests) == 2
    receiver.requests.clear()
    assert post_all(site.path, Collector(receiver.url)) == n_records == len(receiver.taken)


@pytest.mark.parametrize("status", [302, 400, 429, 503])
def test_what_a_collector_does_not_take_is_posted_again(site, receiver, status):
    receiver.answers = [(status, {})]
    exporting = Exporting(Exporter(site.store.database, Collector(receiver.url)))
    with pytest.raises(CollectorUnavailable, match=str(status)):
        exporting.work()
    exporting.work()  # too soon: it waits
    assert receiver.taken == []
    exporting._pace.succeeded()
    exporting.work()
    assert len(receiver.taken) == verify(site.path).n_records


def test_a_collector_that_is_away_is_told_in_one_error(site, receiver):
    url = receiver.url
    exporter = Exporter(site.store.database, Collector(url.replace("127.0.0.1", "127.0.0.2")))
    with pytest.raises(CollectorUnavailable, match="did not answer"):
        exporter.send_new()


def test_records_that_the_collector_will_never_take_are_logged(site, receiver, caplog):
    receiver.answers = [(200, {"partialSuccess": {"rejectedLogRecords": "2"}})]
    Exporter(site.store.database, Collector(receiver.url)).send_new()
    assert "took all but 2 of" in caplog.text


def test_every_kind_of_field_has_its_form():
    event = '{"action":"a","fields":{"b":true,"f":1.5,"i":1,"l":[],"s":"x"}}'
    record = logs_of("k", [Record("c", 1, 0.0, event, "", "00")])["resourceLogs"][0]["scopeLogs"][0]
    values = {each["key"]: each["value"] for each in record["logRecords"][0]["attributes"]}
    assert (values["b"], values["f"]) == ({"boolValue": True}, {"doubleValue": 1.5})


# ---------------------------------------------------------------------------------------- bundles
@pytest.fixture
def bundle(site, tmp_path):
    path = tmp_path / "a.bundle"
    path.write_text("".join(f"{line}\n" for line in export(site.path, "bundle")))
    site.close()
    return path


def test_a_bundle_verifies_as_the_store_does(site, bundle):
    there, here = verify(site.path, auditor=site.auditor), verify(bundle, auditor=site.auditor)
    assert here.ok
    assert (here.chains, here.covered, here.ranges) == (there.chains, there.covered, there.ranges)
    assert "A bundle holds no tables of keys to compare with." in here.not_covered()
    assert list(export(bundle)) == list(export(site.path))
    assert list(export(bundle, "bundle")) == list(export(site.path, "bundle"))


def test_an_edited_bundle_is_found(site, bundle):
    bundle.write_text(
        bundle.read_text().replace(
            '"action":"test","fields":{"n":0}', '"action":"x","fields":{"n":0}'
        )
    )
    assert "was changed: its hash does not recompute" in str(verify(bundle).findings)


def test_a_record_left_out_of_a_bundle_is_found(site, bundle):
    lines = bundle.read_text().splitlines(keepends=True)
    bundle.write_text("".join(line for line in lines if '"seq":4,' not in line))
    assert "was removed" in str(verify(bundle).findings)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text\n",
        "{}\n",
        '{"bundle": 2}\n',
        '{"bundle":1,"kme_id":"a","link_id":"l","log_id":"i","side":"a"}\n{"unheard":[]}\n',
        '{"bundle":1,"kme_id":"a","link_id":"l","log_id":"i","side":"a"}\n{"record":{}}\n',
        '{"bundle":1,"kme_id":"a","link_id":"l","log_id":"i","side":"a"}\n{"span":[1]}\n',
        '{"bundle":1,"kme_id":"a","link_id":"l","log_id":"i","side":"a"}\n[]\n',
    ],
)
def test_what_is_no_bundle_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "a.bundle"
    path.write_text(text)
    with pytest.raises(ConfigError, match="cannot be read") as refusal:
        verify(path)
    assert "\n" not in str(refusal.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "a.bundle"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        verify(path)


# ---------------------------------------------------------------------------------- where to look
def test_stores_and_bundles_below_a_folder_are_found(site, bundle, tmp_path):
    assert stores_below(tmp_path) == sorted([bundle, site.path])
    assert stores_below(bundle) == [bundle]
    assert store_at(site.folder) == site.path
    with pytest.raises(ConfigError, match="holds 2 stores, name one of them"):
        store_at(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"holds no store\.sqlite"):
        store_at(tmp_path / "empty")


def test_every_format_is_known(site):
    assert {len(list(export(site.path, form))) > 5 for form in FORMATS} == {True}


# ----------------------------------------------------------------------------------- into a file
def test_a_file_is_written_line_by_line(site, tmp_path):
    from click.testing import CliRunner

    from keyferry.cli.audit import audit

    file = tmp_path / "a.bundle"
    arguments = ["export", str(site.path), "--format", "bundle", "--output", str(file)]
    done = CliRunner().invoke(audit, arguments)
    assert done.exit_code == 0, done.output
    assert file.read_text().splitlines() == list(export(site.path, "bundle"))
    assert file.stat().st_mode & 0o777 == 0o600
    assert verify(file).ok


def test_an_export_that_breaks_off_leaves_the_earlier_file(site, tmp_path):
    from keyferry.private_files import write_private_parts

    file = tmp_path / "a.jsonl"
    file.write_bytes(b"earlier")

    def broken():
        yield b"a line\n"
        raise ConfigError("the store cannot be read")

    with pytest.raises(ConfigError, match="cannot be read"):
        write_private_parts(file, broken())
    assert file.read_bytes() == b"earlier"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.jsonl"]


def test_keys_are_told_as_json(tmp_path):
    from click.testing import CliRunner

    from keyferry.audit.auditor import read_auditor_private, read_auditor_public
    from keyferry.cli.audit import audit

    file = tmp_path / "auditor.key"
    done = CliRunner().invoke(audit, ["keys", str(file), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["signing_keys"] == []
    private = read_auditor_private(Path(told["auditor_key"]["private"]))
    public = read_auditor_public(Path(told["auditor_key"]["public"]))
    assert private.public_key() == public
