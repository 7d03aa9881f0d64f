"""schemathesis reads ``api/openapi.yaml`` and asks a running KME, over mutual TLS.

The seed is fixed. Every answer must have a status, headers, content type and body that the document
describes; wrong requests must be refused, and right ones served.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import yaml
from schemathesis import openapi

OPENAPI = Path(__file__).parents[3] / "api" / "openapi.yaml"
SETTINGS = """
[parameters]
"path.slave_SAE_ID" = "sae-b1"
"path.master_SAE_ID" = "sae-b1"
"""
STRICT = (
    *("status_code_conformance", "content_type_conformance", "response_headers_conformance"),
    *("response_schema_conformance", "negative_data_rejection"),
    *("unsupported_method", "allow_header_conformance"),
)


@pytest.fixture(scope="module")
def pair(lasting_sites):
    return lasting_sites.pair(store="sqlite", stored_bytes=4_000_000)


@pytest.fixture
def site(pair):
    return pair[0]


@pytest.fixture
def schemathesis(site, certificates, tmp_path):
    """Runs the command; returns its exit code, what it prints, and its report."""

    def run(document, checks, *options, phases="examples,coverage,fuzzing"):
        (tmp_path / "schemathesis.toml").write_text(SETTINGS)
        (tmp_path / "openapi.yaml").write_text(yaml.safe_dump(document))
        sae = certificates.sae("sae-a1")
        done = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("schemathesis")), "run", "openapi.yaml"),
                *("--url", f"https://127.0.0.1:{site.port}"),
                *("--request-cert", str(sae.cert), "--request-cert-key", str(sae.key)),
                *("--tls-verify", str(certificates.authority.certificate)),
                *("--seed", "14", "--max-examples", "20", "--no-shrink"),
                *("--phases", phases, "--continue-on-failure"),
                *("--checks", ",".join(checks), "--suppress-health-check", "all"),
                *("--warnings", "off", "--report", "json", "--report-json-path", "report.json"),
                *options,
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        report = json.loads((tmp_path / "report.json").read_text())
        return done.returncode, (done.stdout + done.stderr)[-5000:], report

    return run


@pytest.fixture
def document():
    return yaml.safe_load(OPENAPI.read_text())


def test_every_answer_is_as_the_document_describes_it(schemathesis, site, document):
    code, said, report = schemathesis(document, STRICT)

    assert code == 0, said
    assert report["operations"]["tested"] == 5
    assert report["test_cases"]["generated"] > 200
    assert report["errors"] == []
    assert "unexpected" not in site.log.read_text()  # no defect hides behind a 503


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_key_with_its_id_is_as_the_document_describes_it(pair, certificates, method):
    a, b = pair
    enc = a.ask("sae-a1", "GET", "/api/v1/keys/sae-b1/enc_keys").json["keys"][0]
    path = "/api/v1/keys/sae-a1/dec_keys"
    sae = certificates.sae("sae-b1")
    answer = requests.request(
        method,
        f"https://127.0.0.1:{b.port}{path}",
        params={"key_ID": enc["key_ID"]} if method == "GET" else None,
        json={"key_IDs": [{"key_ID": enc["key_ID"]}]} if method == "POST" else None,
        cert=(sae.cert, sae.key),
        verify=certificates.authority.certificate,
        timeout=10,
    )
    described = openapi.from_path(OPENAPI)["/api/v1/keys/{master_SAE_ID}/dec_keys"][method]

    assert answer.json()["keys"] == [enc]
    described.validate_response(answer)


def test_right_requests_for_keys_are_served(schemathesis, document):
    """At the limits of each value, and not by key ID: made-up key IDs are of no key.

    No fuzzing: it writes 82.0, which JSON Schema takes for an integer and this KME does not.
    """
    schemas = document["components"]["schemas"]
    schemas["SaeId"] = {"type": "string", "enum": ["sae-b2"]}
    del schemas["KeyRequest"]["properties"]["extension_mandatory"]
    only = ("--mode", "positive", "--exclude-path-regex", "dec_keys")
    code, said, _ = schemathesis(document, ["positive_data_acceptance"], *only, phases="coverage")

    assert code == 0, said


def test_a_document_that_says_otherwise_is_found_wrong(schemathesis, document):
    status = document["components"]["schemas"]["Status"]
    status["properties"]["stored_key_count"] = {"type": "string"}
    code, said, _ = schemathesis(
        document, STRICT, "--include-operation-id", "getStatus", phases="coverage"
    )

    assert code == 1
    assert "stored_key_count" in said
