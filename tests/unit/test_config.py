"""Site files: what is wrong is said in one line with file, key, value and what is allowed."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from keyferry.bootstrap import engine
from keyferry.cli.service import check_lines, monitors_on, would_run_with
from keyferry.config.policies import WebhookSettings
from keyferry.config.sifted import SiftedReplaySettings
from keyferry.config.site import load
from keyferry.pki.authority import Authority
from qkd_core.errors import ConfigError
from qkd_core.keys.quotas import SaePolicy
from qkd_core.types.epsilon import EpsilonLimits
from qkd_core.types.ids import Provenance, Side
from qkd_core.types.monitors import MonitorSettings, PairMonitorSettings
from qkd_core.types.plans import LinkKind, PairModel, PairSettings
from qkd_core.types.reconciliation import CORRECTING
from qkd_core.types.refresh import KeyAlgorithm
from qkd_core.types.settings_table import SettingsTable

EXAMPLE = Path(__file__).parents[2] / "deploy" / "site.example.toml"


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    """The example with the certificate files it names."""
    shutil.copy(EXAMPLE, tmp_path / "site.toml")
    (tmp_path / "tls").mkdir()
    for name in ("ca.pem", "crl.pem", "kme-a.pem", "kme-a.key"):
        (tmp_path / "tls" / name).write_text("only its existence is checked here\n")
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "auditor.pem").write_text("the same\n")
    return tmp_path / "site.toml"


def edited(site_file: Path, old: str, new: str) -> Path:
    text = site_file.read_text()
    assert old in text
    site_file.write_text(text.replace(old, new, 1))
    return site_file


def test_the_example_is_a_valid_site_file(site_file):
    site = load(site_file)
    assert (site.kme_id, site.side) == ("kme-a", Side.A)
    assert site.accept_provenance == {Provenance.DEVICE}
    assert site.link.settings.n_pulses == 10**9
    assert site.policies[0].policy.kmes == ("kme-a", "kme-b")
    assert site.tls.ca == site_file.parent / "tls/ca.pem"
    assert site.audit.auditor_key == site_file.parent / "audit/auditor.pem"
    assert str(site.signing_key) == "/etc/keyferry/audit-signing.key"


def test_the_example_explains_every_setting_that_is_read_and_no_other(site_file, monkeypatch):
    read = set()

    def recorded(name):
        method = getattr(SettingsTable, name)

        def asked(table, key, *more):
            read.add(re.sub(r"\[\d+\]", "", table._prefix + key))
            return method(table, key, *more)

        monkeypatch.setattr(SettingsTable, name, asked)

    recorded("has")
    recorded("_value")
    load(site_file)

    assert explained(EXAMPLE.read_text()) == read


def explained(text: str) -> set[str]:
    """Tables and keys of a TOML text by their whole names, with the keys that are commented out.

    A table that is commented out counts by its name: what is in it is an example of its own.
    """
    found, table = set(), ""
    for line in text.splitlines():
        if header := re.match(r"(# )?\[+([\w.]+)\]", line):
            table = "" if header.group(1) else header.group(2)
            found.add(header.group(2))
        elif table and (key := re.match(r"(?:# )?(\w+) = ", line)):
            found.add(f"{table}.{key.group(1)}")
    return found


def uncommented(site_file: Path, header: str) -> Path:
    """The table ``header`` of the file and all that follows it up to an empty line, put to use."""
    before, found, after = site_file.read_text().partition(f"# [{header}]")
    assert found
    table, gap, rest = after.partition("\n\n")
    lines = "\n".join(line.removeprefix("# ") for line in table.splitlines())
    site_file.write_text(f"{before}[{header}]{lines}{gap}{rest}")
    return site_file


def test_the_webhook_of_the_example_can_be_put_to_use(site_file):
    file = uncommented(site_file, "policies.webhook")
    edited(file, "/etc/keyferry/webhook.secret", "webhook.secret")
    for name in ("webhook.secret", "tls/hooks-ca.pem"):
        (file.parent / name).write_text("only its existence is checked here\n")
    webhook = load(file).policies[0].webhook
    assert webhook == WebhookSettings(
        url="https://hooks.example/keyferry",
        secret=file.parent / "webhook.secret",
        ca=file.parent / "tls/hooks-ca.pem",
    )
    edited(file, "https://hooks", "http://hooks")
    with pytest.raises(ConfigError, match=r"policies\[0\].webhook.url = 'http://hooks"):
        load(file)


def test_a_policy_has_a_schedule_and_limits_of_its_own(site_file):
    (entry,) = load(site_file).policies
    policy = entry.policy
    assert (policy.n_bits, policy.algorithm) == (256, KeyAlgorithm.AES_GCM)
    assert (policy.interval_s, policy.jitter_s, policy.grace_s) == (3600, 60, 7200)
    assert (entry.max_age_s, entry.webhook) == (10800, None)


def test_a_policy_may_have_a_cron_expression_instead_of_an_interval(site_file):
    edited(site_file, "interval_s = 3600", 'cron = "30 2 * * mon-fri"')
    (entry,) = load(site_file).policies
    assert (entry.policy.interval_s, entry.policy.cron) == (None, "30 2 * * mon-fri")


def test_what_is_a_site_s_own_is_in_no_digest(site_file):
    digest = load(site_file).policies[0].policy.digest
    edited(site_file, "max_age_s = 10800", "max_age_s = 60")
    edited(site_file, 'path = "keyferry/backup"', 'path = "elsewhere"')
    assert load(site_file).policies[0].policy.digest == digest
    edited(site_file, "grace_s = 7200", "grace_s = 7201")
    assert load(site_file).policies[0].policy.digest != digest


def test_two_policies_never_write_to_one_place(site_file):
    text = site_file.read_text()
    table = text[text.index("[[policies]]") :]
    site_file.write_text(text + "\n" + table.replace('"backup"', '"second"', 1))
    with pytest.raises(ConfigError, match="backup and second both have secret/keyferry/backup at"):
        load(site_file)
    edited(site_file, "timeout_s = 10  ", "timeout_s = 11  ")
    with pytest.raises(ConfigError, match="each needs its own"):
        load(site_file)


def test_the_theorem_is_one_that_makes_keys_of_such_a_link(site_file):
    assert load(site_file).theorem == "decoy2-exact"
    digest = engine.terms_of(load(site_file)).config_digest
    edited(site_file, '# theorem = "decoy2-exact"', 'theorem = "lim2014"')
    assert load(site_file).theorem == "lim2014"
    assert engine.terms_of(load(site_file)).config_digest != digest
    for name, said in (("bbm92", "makes no key of decoy pulses"), ("rusca", "is unknown")):
        edited(
            site_file,
            re.search(r'theorem = "\w+"', site_file.read_text())[0],
            f'theorem = "{name}"',
        )
        with pytest.raises(ConfigError, match=rf"security.theorem = '{name}': .*{said}.* allowed"):
            load(site_file)


def test_monitors_are_side_b_s(site_file):
    assert load(site_file).link.monitors is None
    limits = "dead_time_us = 2.0\ndouble_click_share = 0.2\nbalance_share = 0.1"
    monitors = f"[link.monitors]\n{limits}\n\n[link.device]"
    edited(site_file, "[link.device]", monitors)
    with pytest.raises(ConfigError, match=r"link.monitors: of decoy pulses at side B alone"):
        load(site_file)
    edited(site_file, 'side = "a"', 'side = "b"')
    site = load(site_file)
    assert site.link.monitors == MonitorSettings(
        false_alarm=1e-9,
        dead_time_ps=2e6,
        arrival_distance=None,
        double_click_share=0.2,
        self_test=False,
        balance_share=0.1,
    )
    edited(site_file, "double_click_share = 0.2", "double_click_share = 1.0")
    with pytest.raises(ConfigError, match=r"double_click_share 1.0: from 0 up to 1"):
        load(site_file)


def test_what_a_link_may_spend_is_each_site_s_own(site_file):
    assert load(site_file).epsilon == EpsilonLimits()
    digest = engine.terms_of(load(site_file)).config_digest
    edited(site_file, "# epsilon_alarm = 1e-6", "epsilon_alarm = 1e-6")
    edited(site_file, "# epsilon_limit = 1e-5", "epsilon_limit = 1e-5")
    assert load(site_file).epsilon == EpsilonLimits(alarm=1e-6, limit=1e-5)
    assert engine.terms_of(load(site_file)).config_digest == digest
    edited(site_file, "epsilon_limit = 1e-5", "epsilon_limit = 1e-7")
    with pytest.raises(ConfigError, match="epsilon_alarm 1e-06: at most epsilon_limit"):
        load(site_file)


def test_the_api_may_be_left_to_a_proxy(site_file):
    assert load(site_file).api.behind_proxy is None
    edited(site_file, "threads = 16", 'threads = 16\nbehind_proxy = "run/api.sock"')
    assert load(site_file).api.behind_proxy == site_file.parent / "run/api.sock"


def test_only_device_bits_are_accepted_unless_the_file_says_otherwise(site_file):
    edited(site_file, 'accept_provenance = ["device"]', "")
    assert load(site_file).accept_provenance == {Provenance.DEVICE}


@pytest.mark.parametrize(
    ("url", "posted_to"),
    [
        ("https://logs.example", "https://logs.example/v1/logs"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/logs"),
        ("http://[::1]:4318/v1/audit", "http://[::1]:4318/v1/audit"),
        ("http://localhost:4318", "http://localhost:4318/v1/logs"),
    ],
)
def test_records_are_posted_in_the_clear_on_this_machine_only(site_file, url, posted_to):
    edited(site_file, "checkpoint_s = 60", f'otlp = "{url}"')
    assert load(site_file).audit.otlp == posted_to


def test_without_an_audit_table_there_is_no_auditor(site_file):
    text = site_file.read_text()
    start, stop = text.index("[audit]"), text.index("[[saes]]")
    site_file.write_text(text[:start] + text[stop:])
    assert load(site_file).audit.auditor_key is None


def test_the_file_says_whom_an_sae_may_share_keys_with_and_how_much_it_may_have(site_file):
    policies = load(site_file).sae_policies
    assert policies["sae-a"] == SaePolicy(
        allow=frozenset({"sae-b"}), rate_hz=50.0, burst=500, share=0.8
    )
    assert policies["sae-b"] == SaePolicy(allow=None)


def test_identity_is_the_uri_unless_the_file_gives_an_order(site_file):
    assert load(site_file).api.identity == ("uri",)
    edited(site_file, 'identity = ["uri"]', 'identity = ["uri", "cn"]')
    assert load(site_file).api.identity == ("uri", "cn")
    edited(site_file, 'identity = ["uri", "cn"]', "")
    assert load(site_file).api.identity == ("uri",)


def test_only_the_word_none_says_that_certificates_cannot_be_revoked(site_file):
    assert load(site_file).tls.crl == site_file.parent / "tls/crl.pem"
    edited(site_file, 'crl = "tls/crl.pem"', 'crl = "none"')
    assert load(site_file).tls.crl is None


WRONG = [
    ("checkpoint_s = 60", 'otlp = "http://logs.example"', "must be an https URL, or http to this"),
    ("checkpoint_s = 60", 'otlp = "ftp://localhost"', "must be an https URL, or http to this"),
    ("checkpoint_s = 60", "checkpoint_s = 0.5", "audit.checkpoint_s = 0.5: must be a number from"),
    ("checkpoint_s = 60", 'peer_key = "short"', "audit.peer_key = 'short': must be a text that"),
    ('"audit/auditor.pem"', '"nowhere"', "must be a file that exists"),
    ('side = "a"', 'side = "c"', "site.side = 'c': must be one of a, b"),
    ('side = "a"', "", "site.side is missing: must be one of a, b"),
    ("eps_sec = 1e-9", "eps_sec = 0.5", "security.eps_sec = 0.5: must be a number from"),
    ("eps_sec = 1e-9", "", "security.eps_sec is missing"),
    ("eps_cor = 1e-15", 'eps_cor = "small"', "security.eps_cor = 'small': must be a number"),
    ("threads = 16", "thread = 16", "api.thread = 16: unknown key, did you mean threads?"),
    ("threads = 16", "threads = 1.5", "api.threads = 1.5: must be a whole number from 1 to 256"),
    ("key_size = 256", "key_size = 100", "api.key_size = 100: must be a multiple of 8"),
    ('"127.0.0.1:9460"', '"127.0.0.1:99999"', "api.metrics = '127.0.0.1:99999': the port must"),
    ('"127.0.0.1:9460"', '"here"', "api.metrics = 'here': must be a text that matches"),
    ('["device"]', '["device", "dice"]', "must be a list of device, simulated, replayed, vendor"),
    ("[0.35, 0.09, 0.0002]", "[0.5]", "link.pulses.intensities = [0.5]: must be 2 or 3 numbers"),
    ("[0.35, 0.09, 0.0002]", "[0.5, 0.15]", "link.pulses.probabilities = [0.06, 0.66, 0.28]: must"),
    ("[0.35, 0.09, 0.0002]", "[0.1, 0.15, 0.001]", "link.pulses: intensities (0.1, 0.15, 0.001)"),
    ("[0.06, 0.66, 0.28]", "[0.55, 0.3, 0.2]", "link.pulses: probabilities (0.55, 0.3, 0.2)"),
    ('driver = "simulated"', 'driver = "laser"', "link.device.driver = 'laser': must be one of"),
    (
        'driver = "simulated"',
        'driver = "replay"',
        "must be of link.pairs: it prepares no pulses",
    ),
    ('"https://kme-b.', '"http://kme-b.', "link.peer_url = 'http://kme-b.example:8443': must"),
    ('cert = "tls/kme-a.pem"', 'cert = "gone.pem"', "must be a file that exists"),
    ('id = "sae-b"', 'id = "sae-a"', "saes[1].id = 'sae-a': is listed twice"),
    ('id = "sae-b"', 'id = "../b"', "saes[1].id = '../b': must be a text that matches"),
    ('id = "sae-b"\nkme = "kme-b"', 'id = "sae-b"\nkme = "kme-c"', "sae-b is at 'kme-c': must be"),
    ('allow = "*"', "", "saes[1].allow is missing: must be a list of texts, or '*'"),
    ('allow = "*"', 'allow = "sae-a"', "saes[1].allow = 'sae-a': must be a list of texts, or '*'"),
    ('allow = ["sae-b"]', 'allow = ["sae-x"]', "sae-a allows sae-x: must be SAEs of this file"),
    ("rate_hz = 50", "", "saes[0].rate_hz is missing: must be a number from 1e-06"),
    ("burst = 500", "burst = 0", "saes[0].burst = 0: must be a whole number from 1"),
    ("share = 0.8", "share = 1.5", "saes[0].share = 1.5: must be a number from 0.001 to 1"),
    ('identity = ["uri"]', "identity = []", "api.identity = []: must be one or more, each once"),
    ("threads = 16", f"behind_proxy = '/{'x' * 107}'", "must be at most 107 bytes long"),
    ('identity = ["uri"]', 'identity = ["cn", "cn"]', "must be one or more, each once"),
    ('identity = ["uri"]', 'identity = ["header"]', "must be a list of uri, dns, cn"),
    ('crl = "tls/crl.pem"', "", "tls.crl is missing"),
    ("tls_1_2 = false", "tls_1_2 = 1", "api.tls_1_2 = 1: must be true or false"),
    ('crl = "tls/crl.pem"', 'crl = "gone.pem"', "must be a file that exists"),
    ('name = "backup"', 'name = "back/up"', "policies[0].name = 'back/up': must be a text"),
    ("interval_s = 3600", "interval_s = 0", "policies[0].interval_s = 0: must be a number from 1"),
    ("n_bits = 256", "n_bits = 200", "n_bits 200: for aes-gcm 128 or 192 or 256"),
    ('algorithm = "aes-gcm"', 'algorithm = "des"', "policies[0].algorithm = 'des': must be one of"),
    ("interval_s = 3600", "", "either interval_s or cron"),
    ("interval_s = 3600", 'cron = "0 3 * * 7"', "days of the week by name"),
    ("interval_s = 3600", 'cron = "0 3 31 2 *"', "no such moment"),
    ("jitter_s = 60", "jitter_s = 3600", "from 0 to half the interval"),
    ("grace_s = 7200", "grace_s = -1", "policies[0].grace_s = -1: must be a number from 0"),
    ("max_age_s = 10800", "max_age_s = 0", "policies[0].max_age_s = 0: must be a number from 1"),
    ('kind = "vault-kv"', 'kind = "hsm"', "policies[0].target.kind = 'hsm': must be one of"),
    ('url = "https://openbao-a', 'url = "http://openbao-a', "policies[0].target.url = 'http://"),
    ("max_bytes = 268435456", "max_bytes = 0", "store.max_bytes = 0: must be a whole number"),
    ('on_full = "pause"', 'on_full = "stop"', "store.on_full = 'stop': must be one of pause, drop"),
    ("erase_after_s = 3600", "erase_after_s = 0", "store.erase_after_s = 0: must be a number"),
    ("compare_kms_s = 86400", "compare_kms_s = 0", "store.compare_kms_s = 0: must be a number"),
    ("reconcile_s = 3600", 'reconcile_s = "1h"', "store.reconcile_s = '1h': must be a number"),
    ("[site]", "[site", "not TOML"),
]


@pytest.mark.parametrize(("old", "new", "said"), WRONG)
def test_a_wrong_setting_is_one_line_that_names_it(site_file, old, new, said):
    edited(site_file, old, new)
    with pytest.raises(ConfigError) as caught:
        load(site_file)
    message = str(caught.value)
    assert message.startswith(f"{site_file}: ")
    assert said in message
    assert "\n" not in message


def with_one_decoy(site_file: Path) -> Path:
    edited(site_file, "[0.35, 0.09, 0.0002]", "[0.38, 0.083]")
    edited(site_file, "[0.06, 0.66, 0.28]", "[0.04, 0.96]")
    text = re.sub(r"(gain|qber) = \[(.*?), (.*?), .*?\]", r"\1 = [\2, \3]", site_file.read_text())
    site_file.write_text(text)
    return site_file


def test_two_intensities_are_a_link_with_one_decoy_and_its_own_theorem(site_file):
    site = load(with_one_decoy(site_file))

    assert site.link.settings.kind is LinkKind.ONE_DECOY
    assert len(site.link.model.gain) == len(site.link.model.qber) == 2
    assert site.theorem == "decoy1-exact"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[0.38, 0.083]", "[0.38, 0.0]", "link.pulses: intensities (0.38, 0.0): mu1 > mu2 > 0"),
        ("[0.38, 0.083]", "[0.083, 0.38]", "link.pulses: intensities (0.083, 0.38): mu1 > mu2"),
        ("gain = [", "gain = [0.0, ", "link.model.gain = [0.0, "),
        (
            "eps_sec = 1e-9",
            'eps_sec = 1e-9\ntheorem = "lim2014"',
            "theorem 'lim2014' makes no key of decoy pulses of two intensities, allowed are"
            " decoy1-exact",
        ),
    ],
)
def test_what_does_not_go_with_one_decoy_is_one_line_that_names_it(site_file, old, new, said):
    edited(with_one_decoy(site_file), old, new)

    with pytest.raises(ConfigError) as caught:
        load(site_file)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_named(site_file):
    text = site_file.read_text()
    site_file.write_text(re.sub(r"\[security\].*?(?=\[link\])", "", text, flags=re.S))
    with pytest.raises(ConfigError, match="security is missing: must be a table"):
        load(site_file)


@pytest.mark.parametrize("command", ["check", "kme", "engine", "api", "jobs"])
def test_every_command_refuses_a_wrong_site_file_before_it_starts_anything(site_file, command):
    edited(site_file, 'side = "a"', 'side = "left"')
    before = set(site_file.parent.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-m", "keyferry", command, str(site_file)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (f"keyferry: {site_file}: site.side = 'left': must be one of a, b\n")
    assert done.stdout == ""
    assert set(site_file.parent.rglob("*")) == before


@pytest.fixture
def certified(site_file: Path) -> Path:
    """The site file with certificates that can be used."""
    tls = site_file.parent / "tls"
    shutil.rmtree(tls)
    authority = Authority.create(tls, "a test authority")
    authority.issue(tls, "kme-a", uri="urn:keyferry:kme:kme-a", server=True, client=True)
    (tls / "crl.pem").write_bytes(authority.revocation_list({}, 1))
    return site_file


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("n_pulses = 1000000000", "n_pulses = 1000000", "link.pulses and link.model give no key"),
        ('ca = "tls/ca.pem"', 'ca = "site.toml"', "tls: cannot be used"),
    ],
)
def test_check_refuses_what_could_never_give_key(certified, old, new, said):
    edited(certified, old, new)
    done = subprocess.run(
        [sys.executable, "-m", "keyferry", "check", str(certified)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_check_reports_what_a_site_would_run_with(certified):
    site_file = certified
    done = subprocess.run(
        [sys.executable, "-m", "keyferry", "check", str(site_file)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "kme-a, side A of link fibre-ab" in done.stdout
    assert "one block in 100 on a healthy link" in done.stdout
    assert re.search(r"1 s each, \d{6} secret bits", done.stdout)


def test_what_check_reports_can_be_had_as_json(certified):
    done = subprocess.run(
        [sys.executable, "-m", "keyferry", "check", str(certified), "--json"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    told = json.loads(done.stdout)
    assert (told["kme"], told["side"], told["link"]) == ("kme-a", "a", "fibre-ab")
    assert told["security"] == {
        "theorem": "decoy2-exact",
        "eps_sec": 1e-9,
        "eps_cor": 1e-15,
        "abort_rate": 0.01,
        "epsilon_alarm": None,
        "epsilon_limit": None,
    }
    assert told["correction"] == sorted(CORRECTING)
    assert told["monitors"] == []
    assert told["block"]["duration_s"] == 1.0
    assert told["block"]["secret_bits"] > 10_000
    assert told["policies"] == ["backup"]


def test_check_reports_methods_monitors_and_what_epsilon_may_come_to(certified):
    text = certified.read_text()
    text = text.replace('correction = ["cascade", "ldpc"]', 'correction = ["ldpc"]')
    text = re.sub(r"# (epsilon_alarm = )\S+", r"\g<1>1e-4", text)
    text = text.replace('side = "a"', 'side = "b"')
    monitors = "[link.monitors]\ndead_time_us = 2\narrival_distance = 0\n\n[link.device]"
    certified.write_text(text.replace("[link.device]", monitors, 1))
    site = load(certified)

    told = would_run_with(site, 0)

    assert told["correction"] == ["ldpc"]
    assert told["security"]["epsilon_alarm"] == 1e-4
    assert told["security"]["epsilon_limit"] is None
    assert told["monitors"] == ["arrival_distance"]
    lines = "\n".join(check_lines(told))
    assert re.search(r"^correction +ldpc$", lines, re.M)
    assert re.search(r"^monitors +arrival_distance$", lines, re.M)
    assert "alarm 0.0001, limit none" in lines


def test_engines_with_other_settings_or_another_hash_do_not_agree(site_file, monkeypatch):
    site = load(site_file)
    ours = engine.terms_of(site).config_digest
    other = replace(site, security=replace(site.security, eps_sec=site.security.eps_sec / 2))
    assert engine.terms_of(other).config_digest != ours
    monkeypatch.setattr(engine, "HASH", "toeplitz-of-all-columns")
    assert engine.terms_of(site).config_digest != ours


MODEL_OF_PAIRS = "key_rate_hz = 25000\ntest_rate_hz = 1500\nkey_qber = 0.011\ntest_qber = 0.013\n"


def of_pairs(site_file: Path) -> Path:
    """The example with its pairs put to use instead of its pulses."""
    file = uncommented(site_file, "link.pairs")
    text = re.sub(r"\[link.pulses\].*?\n\n", "", file.read_text(), flags=re.S)
    text = re.sub(r"gain = .*?\nqber = .*?\n", MODEL_OF_PAIRS, text, count=1, flags=re.S)
    file.write_text(text)
    return file


def test_the_pairs_of_the_example_can_be_put_to_use(site_file):
    link = load(of_pairs(site_file)).link

    assert link.settings == PairSettings(
        link_s=2.0, window_ps=600, hold_off_ps=50_000, resolution_ps=128
    )
    assert link.model == PairModel(
        key_rate_hz=25_000, test_rate_hz=1500, key_qber=0.011, test_qber=0.013
    )


PAIR_MONITORS = """[link.monitors]
arrival_distance = 0.05
double_click_share = 0.2
rate_share = 0.1
balance_share = 0.15

[link.device]"""


def test_monitors_of_pairs_are_either_side_s_and_arrival_times_those_of_side_a(site_file):
    file = edited(of_pairs(site_file), "[link.device]", PAIR_MONITORS)
    assert load(file).link.monitors == PairMonitorSettings(
        false_alarm=1e-9,
        arrival_distance=0.05,
        double_click_share=0.2,
        rate_share=0.1,
        balance_share=0.15,
    )
    assert monitors_on(load(file).link.monitors) == [
        "arrival_distance",
        "double_click_share",
        "rate_share",
        "balance_share",
    ]
    edited(file, 'side = "a"', 'side = "b"')
    with pytest.raises(ConfigError, match=r"link.monitors: arrival_distance: .* at side A, which"):
        load(file)
    edited(file, "arrival_distance = 0.05\n", "")
    assert load(file).link.monitors.arrival_distance is None


def of_sifted_bits(site_file: Path, monitors: str) -> Path:
    """The example with recorded bits of pairs as its device."""
    recording = site_file.parent / "a.sifted"
    recording.touch()
    device = f'[link.device]\ndriver = "replay-sifted"\nrecording = "{recording.name}"\n\n'
    text = of_pairs(site_file).read_text()
    text = re.sub(r"\[link.device\].*?\n\n", monitors + device, text, count=1, flags=re.S)
    site_file.write_text(text)
    return site_file


def test_recorded_bits_are_a_device_of_pairs_and_balance_is_watched(site_file):
    link = load(of_sifted_bits(site_file, "[link.monitors]\nbalance_share = 0.1\n\n")).link

    recording = site_file.parent / "a.sifted"
    assert link.device == SiftedReplaySettings(recording=recording, speed=1.0)
    assert monitors_on(link.monitors) == ["balance_share"]


@pytest.mark.parametrize("name", ["arrival_distance", "double_click_share", "rate_share"])
def test_a_monitor_that_has_nothing_to_look_at_in_recorded_bits_is_refused(site_file, name):
    file = of_sifted_bits(site_file, f"[link.monitors]\n{name} = 0.1\n\n")
    with pytest.raises(ConfigError) as refusal:
        load(file)
    told = f"link.monitors.{name} = 0.1: looks at time tags, of which driver 'replay-sifted' gives"
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("dead_time_us = 2.0", "dead_time_us is for decoy pulses: link.pairs.hold_off_ps says"),
        ("self_test = true", "self_test is for decoy pulses: receivers of pairs have no light"),
        ("rate_share = 1.0", "rate_share 1.0: from 0 up to 1, which is excluded"),
        ("rate_shares = 0.1", "unknown key, did you mean rate_share?"),
    ],
)
def test_monitors_that_pairs_do_not_have_are_refused_with_a_line(site_file, line, told):
    monitors = f"[link.monitors]\n{line}\n\n[link.device]"
    file = edited(of_pairs(site_file), "[link.device]", monitors)
    with pytest.raises(ConfigError, match=re.escape(told)) as refusal:
        load(file)
    assert "\n" not in str(refusal.value)
    assert "link.monitors" in str(refusal.value)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[link.pairs]", "[link.pulses]\n[link.pairs]", "must not be beside link.pulses"),
        ("window_ps = 600", "window_ps = 8", "link.pairs: resolution_ps 128, window_ps 8"),
        ("window_ps = 600", "window_ps = 0", "link.pairs.window_ps = 0: must be a whole number"),
        ("key_qber = 0.011", "key_qber = 0.6", "link.model.key_qber = 0.6: must be a number"),
        ("key_rate_hz = 25000", "gain = [1.0, 1.0, 1.0]", "link.model.key_rate_hz is missing"),
    ],
)
def test_wrong_pairs_are_refused_with_a_line(site_file, old, new, told):
    file = edited(of_pairs(site_file), old, new)

    with pytest.raises(ConfigError) as error:
        load(file)

    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_check_says_what_a_link_of_pairs_would_give(certified):
    done = subprocess.run(
        [sys.executable, "-m", "keyferry", "check", str(of_pairs(certified)), "--json"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    block = json.loads(done.stdout)["block"]
    assert block.keys() == {"duration_s", "secret_bits"}
    assert block["duration_s"] == 2.0
    assert 10_000 < block["secret_bits"] < 50_000


def test_check_refuses_pairs_that_could_never_give_key(certified):
    file = edited(of_pairs(certified), "test_rate_hz = 1500", "test_rate_hz = 10")
    done = subprocess.run(
        [sys.executable, "-m", "keyferry", "check", str(file)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 2
    assert "link.pairs and link.model give no key" in done.stderr
    assert done.stderr.count("\n") == 1
