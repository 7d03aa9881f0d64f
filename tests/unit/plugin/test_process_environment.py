import json
import os
import subprocess
import sys

from qkd_kms_adapters.openbao_plugin.process.environment import scrub

THE_SERVERS = "s.a-token-of-the-servers-own"
SCRUB_AND_TELL = """
import json, os, posix, sys
from subprocess import check_output
from qkd_kms_adapters.openbao_plugin.process.environment import scrub

os.environ["SET_LATER"] = "by this process"
os.environ["TMPDIR"] += "/deeper"
scrub()
shown = "import os; print(sorted(os.environb))"
print(json.dumps({
    "python": dict(os.environ),
    "posix": sorted(name.decode() for name in posix.environ),
    "kernel": open("/proc/self/environ").read(),
    "grandchild": check_output([sys.executable, "-c", shown], text=True),
}), flush=True)
sys.stdin.read()
"""
INHERITED = {
    "BAO_TOKEN": THE_SERVERS,
    "VAULT_TOKEN": THE_SERVERS,
    "AWS_SECRET_ACCESS_KEY": THE_SERVERS,
    "HTTPS_PROXY": "http://proxy:3128",
    "SSLKEYLOGFILE": "/run/keys",
    "PATH": os.environ["PATH"],
    "TMPDIR": "/run",
    "OPENSSL_CONF": "/etc/ssl/openssl.cnf",
}


def test_inherited_secrets_are_gone_for_python_for_the_kernel_and_for_children() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRUB_AND_TELL],
        env=INHERITED,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        with open(f"/proc/{process.pid}/environ", "rb") as file:
            seen_from_outside = file.read()
        process.communicate()

    assert process.returncode == 0
    kept = {"TMPDIR": "/run/deeper", "OPENSSL_CONF": "/etc/ssl/openssl.cnf"}
    assert told["python"] == kept
    assert told["posix"] == sorted(kept)
    assert set(told["kernel"]) == {"\0"}
    assert set(seen_from_outside) == {0}
    assert len(seen_from_outside) > len(THE_SERVERS)
    assert "TMPDIR" in told["grandchild"]
    assert "TOKEN" not in told["grandchild"]
    assert "PROXY" not in told["grandchild"]


def test_the_kernel_shows_the_environment_of_a_process_that_does_not_scrub() -> None:
    """Else the test above would prove nothing."""
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"],
        env=INHERITED,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with open(f"/proc/{process.pid}/environ", "rb") as file:
            assert THE_SERVERS.encode() in file.read()
        process.communicate()


def test_what_is_kept_can_be_chosen() -> None:
    code = f"import os; from {scrub.__module__} import scrub; scrub(['LANG']); print(os.environ)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"LANG": "C.UTF-8", **INHERITED},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "environ({'LANG': 'C.UTF-8'})\n"
