"""What the README tells a newcomer to type, typed; and what it shows, compared with what comes."""

import base64
import io
import json
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from rich.console import Console

from keyferry.operator.socket import ask
from qkd_kms_adapters.registry import KINDS

ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"
EXAMPLES = ROOT / "examples" / "external-secrets"
BIN = Path(sys.executable).parent


def blocks(language: str = "", text: str | None = None) -> list[str]:
    text = README.read_text() if text is None else text
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M)
    return [block for told, block in fences if told == language]


def section(heading: str) -> str:
    _, found, after = README.read_text().partition(f"\n## {heading}\n")
    assert found, heading
    return after.partition("\n## ")[0]


def block_with(*words: str, language: str = "") -> str:
    [found] = [text for text in blocks(language) if all(word in text for word in words)]
    return found


def typed(
    commands: str,
    state: Path,
    environment: dict[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Run lines of the README with this state directory, in ``folder``; each must succeed."""
    done = ran(commands, state, environment, folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ran(
    commands: str,
    state: Path,
    environment: dict[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    script = commands.replace(".venv/bin/", f"{BIN}/").replace(".keyferry", str(state))
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": "/usr/bin:/bin", **(environment or {})},
        cwd=folder,
    )


def test_the_curl_commands_fetch_one_key_at_both_sites(up):
    commands = block_with("enc_keys", "dec_keys")
    asking, _, fetching = commands.partition("# ... tells it")
    answer = json.loads(typed(asking, up.state))
    [key] = answer["keys"]
    assert len(base64.b64decode(key["key"])) == 32
    addresses = asking.partition("# service A")[0]
    twin = json.loads(typed(f"{addresses}\n#{fetching}", up.state, {"KEY_ID": key["key_ID"]}))
    assert twin == answer


def test_the_audit_command_says_what_the_readme_shows(up):
    shown = block_with("$ ", "audit verify .keyferry").strip().splitlines()
    assert shown[0].startswith("$ ")
    out = typed(shown[0].removeprefix("$ "), up.state).strip().splitlines()

    def shape(line: str) -> str:
        return re.sub(r"\d+", "N", line.replace(str(up.state), ".keyferry"))

    assert [shape(line) for line in out] == [shape(line) for line in shown[1:]]


def test_the_certificates_of_a_running_site_hold(up, tmp_path):
    said = typed(block_with("certificates .keyferry/a", "certify"), up.state, folder=tmp_path)
    files = sorted((tmp_path / "certificates").glob("*.json"))
    assert files
    assert said.count(": holds") == len(files)

    text = files[0].read_text()
    errors = json.loads(text)["n_errors"]
    files[0].write_text(text.replace(f'"n_errors": {errors}', f'"n_errors": {errors - 1}'))
    refused = ran(f".venv/bin/keyferry certify {files[0]}", up.state, folder=tmp_path)
    assert refused.returncode == 1
    assert "digest" in refused.stderr + refused.stdout


def test_the_formulas_of_the_readme_are_evaluated(up):
    said = typed(block_with("proof plob", "proof list", "proof plan"), up.state)
    assert "0.0144995696951" in said  # -log2(1 - 0.01)
    assert "n_secret" in said or "secret" in said


def test_the_commands_of_an_operator_find_the_sites_well(up, tmp_path):
    said = typed(block_with("status .keyferry/a"), up.state, folder=tmp_path)
    assert "site alarms  none" in said
    assert ": 0 differences" in said
    assert "complete" in said.splitlines()
    assert (tmp_path / "kme-a.backup").stat().st_size > 1000


def pushing(*words: str) -> str:
    """The block of the section on refresh policies that holds ``words``."""
    text = section("Push keys into your KMS")
    [found] = [block for block in blocks("", text) if all(word in block for word in words)]
    return found


def test_a_policy_is_run_and_shown_as_the_readme_shows_it(up):
    """The schedule goes on meanwhile, so that a run of its own may come between two commands."""
    lines = pushing("$ ", "policy run").splitlines()
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    shown = [shape(line) for line in lines if not line.startswith("$ ")]
    for _ in range(5):
        up.until(lambda: is_quiet(up, 5.0), "a while without a run")
        said = "".join(typed(command, up.state) for command in commands).splitlines()
        if [shape(line) for line in said] == shown:
            return
    assert [shape(line) for line in said] == shown


def shape(line: str) -> str:
    """What is the same at every run: no numbers, identifiers or widths of columns."""
    line = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", line)
    return re.sub(r" +", " ", re.sub(r"\d+(\.\d+)?", "N", line)).strip()


def row_of_backup(up):
    """What the operator's list says of the policy, at site A."""
    [row] = ask(up.state / "a" / "state", {"order": "policy-list"})["policies"]
    return row


def is_quiet(up, for_s):
    """Whether no run is under way, and the next one is not due before ``for_s``."""
    row = row_of_backup(up)
    return not row["under_way"] and not row["due"] and row["next_due"] > time.time() + for_s


def test_a_policy_is_paused_and_resumed_and_no_run_resolved_that_is_not_blocked(up):
    before, pause, after = pushing("policy pause").partition(
        next(line for line in pushing("policy pause").splitlines() if "policy pause" in line)
    )
    said = typed(f"{before}{pause}", up.state)
    assert "other file   agrees: kme-b has the same policy" in said
    assert "backup is paused at this site, by uid " in said
    # A refresh that was due when it was paused stays due.
    up.until(lambda: not row_of_backup(up)["under_way"], "the end of the last run")
    retry, supersede = pushing("refresh resolve").strip().splitlines()
    assert "done, not blocked: nothing to retry" in refused(retry, up.state)
    assert "only one that is committed or blocked is superseded" in refused(supersede, up.state)
    said = typed(after, up.state)
    assert "and runs again at this site" in said
    [row] = json.loads(said.splitlines()[-1])["policies"]
    assert (row["name"], row["attention"]) == ("backup", {})


def refused(command: str, state: Path) -> str:
    """The line that a command of the README answers with when it cannot be done."""
    done = ran(command, state)
    assert done.returncode == 2
    return done.stderr


def test_every_kind_of_target_is_in_the_table_of_the_readme():
    kinds = re.findall(r"^\| `([a-z0-9-]+)` \|", section("Push keys into your KMS"), re.M)
    assert sorted(kinds) == sorted(KINDS)


def test_the_policy_of_the_readme_can_be_read(tmp_path):
    from keyferry.config.policies import read_policies
    from qkd_core.types.ids import KmeId
    from qkd_core.types.settings_table import SettingsTable

    [text] = blocks("toml", section("Push keys into your KMS"))
    for name in ("tls/ca.pem", "webhook.secret"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    fields = tomllib.loads(text.replace("/etc/keyferry/webhook.secret", "webhook.secret"))
    table = SettingsTable(fields, "README.md", "")
    [entry] = read_policies(table, (KmeId("kme-a"), KmeId("kme-b")), tmp_path)
    assert (entry.policy.name, entry.policy.jitter_s, entry.max_age_s) == ("backup", 300, 300000)


def of_the_readme():
    [text] = blocks("yaml", section("Push keys into your KMS"))
    return yaml.safe_load_all(text)


def of_the_examples():
    for name in ("secret-store", "external-secret"):
        yield yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())


@pytest.mark.parametrize("shown", [of_the_readme, of_the_examples])
def test_what_the_external_secrets_operator_is_told_to_read_is_there(up, shown):
    """Its Vault provider reads ``/v1/<path>/data/<key>`` and takes properties of the data."""
    store, secret = shown()
    assert {each["apiVersion"] for each in (store, secret)} == {"external-secrets.io/v1"}
    vault, spec = store["spec"]["provider"]["vault"], secret["spec"]
    reference = spec["secretStoreRef"]
    assert (reference["kind"], reference["name"]) == (store["kind"], store["metadata"]["name"])
    assert vault["version"] == "v2"
    found = {}
    for each in spec["data"]:
        asked = each["remoteRef"]
        answer = up.openbao("a", f"{vault['path']}/data/{asked['key']}")
        value = answer.json()["data"]["data"][asked["property"]]
        decode = base64.b64decode if asked.get("decodingStrategy") == "Base64" else str
        found[each["secretKey"]] = decode(value)
    assert len(found["key"]) == 32
    assert re.fullmatch(r"[0-9a-f-]{36}", found.get("key_id", "0" * 36))
    assert int(found["generation"]) >= 1


def reading(*words: str) -> str:
    """The block of the section on the secrets engine that holds ``words``."""
    text = section("Read keys from Vault")
    [found] = [block for block in blocks("", text) if all(word in block for word in words)]
    return found


def test_a_key_is_read_from_one_openbao_and_its_copy_from_the_other(up):
    at_a, _, at_b = reading("KEY_ID:?}   #").partition("source .keyferry/b")
    said = table(typed(at_a, up.state))
    twin = table(typed(f"source .keyferry/b{at_b}", up.state, {"KEY_ID": said["key_id"]}))
    assert twin == said
    assert len(base64.b64decode(said["key"])) == 32
    again = ran(f"source .keyferry/b{at_b}", up.state, {"KEY_ID": said["key_id"]})
    assert again.returncode == 2 and "not found on KME" in again.stderr
    shown = table(reading("$ ").partition("\n")[2])
    assert shown.keys() == said.keys()
    assert (shown["encoding"], shown["provenance"]) == (said["encoding"], said["provenance"])


def table(text: str) -> dict[str, str]:
    """What `bao read` prints, without its head."""
    return dict(line.split(maxsplit=1) for line in text.strip().splitlines()[2:])


@pytest.mark.parametrize("words", [("openssl", "cmp"), ("envelope.py", "cmp")])
def test_what_is_encrypted_at_one_site_is_decrypted_at_the_other(up, tmp_path, words):
    (tmp_path / "README.md").write_bytes(README.read_bytes())
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    typed(reading(*words), up.state, folder=tmp_path)
    [sealed] = [
        tmp_path / name for name in ("sealed", "README.sealed") if (tmp_path / name).exists()
    ]
    assert b"Keyferry" not in sealed.read_bytes()


def test_the_example_refuses_what_is_no_sealed_file_and_what_was_altered(up, tmp_path):
    (tmp_path / "README.md").write_bytes(README.read_bytes())
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    seal, unseal = reading("envelope.py").strip().splitlines()
    typed(seal, up.state, folder=tmp_path)
    file = tmp_path / "README.sealed"
    sealed = bytearray(file.read_bytes())
    for cut in (
        sealed[:40],
        sealed[:70],
        sealed.replace(b"qkd-envelope 1 ", b"qkd-envelope 1 ../"),
    ):
        file.write_bytes(cut)
        refused = ran(unseal, up.state, folder=tmp_path).stderr
        assert refused == "this is no sealed file, or not all of it\n" + refused.partition("\n")[2]
    sealed[-1] ^= 1
    file.write_bytes(sealed)
    assert "the file was altered" in ran(unseal, up.state, folder=tmp_path).stderr
    assert "not found on KME" in ran(unseal, up.state, folder=tmp_path).stderr


def test_the_commands_to_try_are_printed_as_shown_and_can_be_typed(up):
    from keyferry.up.layout import StateDirectory
    from keyferry.up.progress import to_try

    printed = to_try(SimpleNamespace(state=StateDirectory(up.state)))
    shown = block_with("QBER")
    assert shown.startswith(
        printed.replace(f"{BIN}/", ".venv/bin/").replace(str(up.state), ".keyferry") + "\n"
    )
    narrow = Console(width=40, file=io.StringIO())
    narrow.print(printed, soft_wrap=True, markup=False, highlight=False)
    assert narrow.file.getvalue() == printed + "\n"
    _, at_a, at_b = printed.splitlines()
    key = table(typed(at_a, up.state))
    assert table(typed(at_b.replace("KEY_ID", key["key_id"]), up.state)) == key


def test_our_own_pair_conforms_to_every_clause(up):
    said = typed(block_with("keyferry conformance"), up.state)
    assert said.splitlines()[-1] == "56 pass, 0 fail, 0 differs, 0 not applicable"


def test_the_display_has_the_rows_that_the_readme_shows():
    from keyferry.up.progress import ROWS

    shown = block_with("QBER")
    rows = re.findall(r"^│ (.*?)\s+│", shown, re.M)
    assert rows == list(ROWS)


def test_every_file_that_the_readme_links_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text())
    assert links
    for link in links:
        assert (README.parent / link).exists(), link


def test_every_keyferry_command_of_the_readme_exists():
    from keyferry.cli import COMMANDS

    named = set(re.findall(r"(?:^|/bin/|`)keyferry ([a-z-]+)", README.read_text(), re.M))
    assert named and named <= set(COMMANDS)
