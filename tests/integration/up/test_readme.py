"""What the README tells a newcomer to type, typed; and what it shows, compared with what comes."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[3] / "README.md"
BIN = Path(sys.executable).parent


def blocks(language: str = "") -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README.read_text(), re.S | re.M)
    return [text for told, text in fences if told == language]


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
    script = commands.replace(".venv/bin/", f"{BIN}/").replace(".keyferry", str(state))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": "/usr/bin:/bin", **(environment or {})},
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


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


def test_the_commands_of_an_operator_find_the_sites_well(up, tmp_path):
    said = typed(block_with("status .keyferry/a"), up.state, folder=tmp_path)
    assert "alarms       none" in said
    assert ": 0 differences" in said
    assert "complete" in said.splitlines()
    assert (tmp_path / "kme-a.backup").stat().st_size > 1000


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
