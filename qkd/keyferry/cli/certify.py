"""Commands about the certificates of blocks: derive one again, and get them out of a site."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from qkd_certify import Verdict

ACCEPTED, REFUSED, UNREADABLE = 0, 1, 2
AS_JSON = click.option("--json", "as_json", is_flag=True, help="JSON, one line a certificate.")

INTENSITIES = ("signal", "decoy", "vacuum")
BOUNDS = {  # in the order of the derivation; of each the end on which the length rests
    "s_key_0_max": "at most {1:,.0f} vacuum events in the key",
    "s_test_0_max": "at most {1:,.0f} vacuum events in the test",
    "s_key_0": "at least {0:,.1f} vacuum events in the key",
    "s_key_1": "at least {0:,.1f} single-photon events in the key",
    "s_test_1": "at least {0:,.1f} single-photon events in the test",
    "v_test_1": "at most {1:,.1f} single-photon errors in the test",
    "phase_errors_max": "at most {1:,.0f} phase errors in the key",
    "phi": "at most {1:.4%} phase error rate",
    "entropy": "at least {0:,.1f} bits of min-entropy",
    "secrecy_cost": "{1:,.1f} bits for secrecy",
    "correctness_cost": "{1:,.1f} bits for verification",
    "length": "at least {0:,.1f} bits of key, all that was disclosed taken off",
}
ASSERTED = {
    **BOUNDS,
    "entropy": "{0:,.0f} bits are secret, by the vendor's word",
    "length": "{0:,.1f} bits of key, if they are",
}


@click.command()
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@AS_JSON
def certify(files: tuple[Path, ...], as_json: bool) -> None:
    """Derive the key length of each certificate FILE again, from the counts and nothing else.

    The verifier shares no code with what made the key. It says what the length rests on, or what
    is not as the theorem, the plan or the digests say. Exit 0: every certificate holds; 1: one is
    refused; 2: one cannot be read. `-` is the standard input.

    \b
    Examples:
      keyferry certificates /etc/keyferry/site.toml --out certificates
      keyferry certify certificates/*.json
      keyferry certify certificates/block-000003.json --json
    """
    sys.exit(max(_certified(file, as_json) for file in files))


@click.command()
@click.argument("site", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder for the files, block-000001.json and so on.",
)
@click.option("--block", type=click.IntRange(min=1), help="Only that of block N.", metavar="N")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def certificates(site: Path, out: Path, block: int | None, as_json: bool) -> None:
    """Write the certificates of the blocks that SITE has stored; the site may be running.

    They hold counts, thresholds and lengths, and no key.

    \b
    Examples:
      keyferry certificates /etc/keyferry/site.toml --out certificates
      keyferry certificates site.toml --out . --block 3
    """
    from keyferry.config.site import load
    from keyferry.private_files import private_folder, write_private_files
    from qkd_core.errors import ConfigError

    store = load(site).store
    private_folder(out)
    files = write_private_files(out, _named(_stored(store, block)))
    _progress("")
    if block is not None and not files:
        raise ConfigError(f"{store}: holds no block {block}")
    if as_json:
        click.echo(json.dumps({"files": [str(file) for file in files]}))
    else:
        n = "1 certificate" if len(files) == 1 else f"{len(files)} certificates"
        click.echo(f"{out}: {n}, to derive again with keyferry certify")


def _named(certificates: Iterator[tuple[int, str]]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of their files."""
    for done, (number, certificate) in enumerate(certificates, 1):
        yield f"block-{number:06}.json", certificate.encode() + b"\n"
        _progress(f"{done} written")


def _progress(done: str) -> None:
    """On a terminal one line that replaces itself; cleared by no words."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{done}", err=True, nl=False)


def _stored(store: Path, block: int | None) -> Iterator[tuple[int, str]]:
    """Numbers and certificates, read without changing anything. Raises ConfigError."""
    from keyferry.audit.offline import opened

    with opened(store) as connection:
        yield from connection.execute(
            "SELECT block_id, certificate FROM blocks WHERE ? IS NULL OR block_id = ?"
            " ORDER BY block_id",
            (block, block),
        )


def _certified(file: Path, as_json: bool) -> int:
    """Tell what one certificate shows; returns the exit code for it."""
    from qkd_certify import CertificateRefused, CertificateUnreadable, check, parse

    try:
        verdict = check(parse(_content(file)))
    except OSError as error:
        return _failed(file, f"cannot be read: {error.strerror or error}", UNREADABLE, as_json)
    except CertificateUnreadable as error:
        return _failed(file, str(error), UNREADABLE, as_json)
    except CertificateRefused as error:
        return _failed(file, str(error), REFUSED, as_json)
    if as_json:
        click.echo(json.dumps({"file": str(file), "accepted": True} | as_figures(verdict)))
    else:
        click.echo("\n".join(statement(str(file), verdict)))
    return ACCEPTED


def _content(file: Path) -> bytes:
    """No more than shows that it is too much. Raises OSError."""
    from qkd_certify.reading import BYTES_MAX

    if str(file) == "-":
        return sys.stdin.buffer.read(BYTES_MAX + 1)
    with file.open("rb") as content:
        return content.read(BYTES_MAX + 1)


def _failed(file: Path, reason: str, code: int, as_json: bool) -> int:
    if as_json:
        told = {"file": str(file), "accepted": False, "readable": code != UNREADABLE}
        click.echo(json.dumps(told | {"reason": reason}))
    else:
        click.echo(f"{file}: {'REFUSED' if code == REFUSED else 'NOT READABLE'}: {reason}")
    return code


def as_figures(verdict: "Verdict") -> dict[str, Any]:
    """For programs; of each bound the ends between which the true value lies."""
    plan, told = verdict.plan, verdict.told
    return {
        "theorem": {"name": verdict.theorem, "version": verdict.version},
        "block": plan.block_id,
        "link": plan.link_id,
        "provenance": plan.provenance,
        "n_secret": plan.n_secret,
        "n_secret_max": verdict.n_secret_max,
        "n_sifted": told.n_sifted,
        "leak_ec": told.leak_ec,
        "leak_ec_max": plan.budget.leak_ec_max,
        "eps_sec": plan.budget.eps_sec,
        "eps_cor": plan.budget.eps_cor,
        "bounds": verdict.bounds,
        **_asserted(verdict),
        "ledger": [
            {"what": part.what, "epsilon": float(part.epsilon), "times": part.times}
            for part in verdict.ledger
        ],
    }


def statement(name: str, verdict: "Verdict") -> list[str]:
    """For people: what the length of the key rests on."""
    plan = verdict.plan
    lines = [
        ("block", f"{plan.block_id} of link {plan.link_id}, {plan.provenance}"),
        ("theorem", f"{verdict.theorem}, version {verdict.version}: {verdict.source}"),
        *(_by_word(verdict) if _asserted(verdict) else _by_theorem(verdict)),
    ]
    return [f"{name}: holds", *(f"  {what:11} {text}".rstrip() for what, text in lines)]


def _by_theorem(verdict: "Verdict") -> Iterator[tuple[str, str]]:
    plan, told, budget = verdict.plan, verdict.told, verdict.plan.budget
    yield from _counts(verdict)
    yield "disclosed", f"{told.leak_ec:,} bits count, planned for {budget.leak_ec_max:,}"
    yield from _costs(verdict, BOUNDS)
    yield "key", f"{plan.n_secret:,} bits, at most {verdict.n_secret_max:,} are certain"
    yield "assumed", "what the theorem asks of source, detectors and sites: no file can show it"
    yield "told", f"{told.n_errors:,} errors corrected: no bound depends on them"


def _by_word(verdict: "Verdict") -> Iterator[tuple[str, str]]:
    """Of a vendor's keys: what is only said, and what was checked."""
    said, n_secret = _asserted(verdict)["asserted"], verdict.plan.n_secret
    yield (
        "asserted",
        f"that the keys are secret is the word of {said['by']}: nothing here proves it",
    )
    yield (
        "keys",
        f"{said['n_keys']:,} of {said['key_bits']:,} bits, for {' and '.join(said['saes'])}",
    )
    yield "key IDs", f"SHA-256 {said['key_ids_digest']}"
    yield from _costs(verdict, ASSERTED)
    yield "key", f"{n_secret:,} bits, at most {verdict.n_secret_max:,} if the vendor is right"
    yield "checked", "numbers of keys and bits, what verification takes off, ledger and digests"


def _asserted(verdict: "Verdict") -> dict[str, Any]:
    """Whose word the key rests on, and about which keys; empty for one that has a theorem."""
    from qkd_certify.limits import VendorLimits

    limits = verdict.plan.limits
    if not isinstance(limits, VendorLimits):
        return {}
    said = {
        "by": limits.vendor,
        "saes": [limits.master_sae, limits.slave_sae],
        "n_keys": limits.n_keys,
        "key_bits": limits.key_bits,
        "key_ids_digest": verdict.told.key_ids_digest,
    }
    return {"asserted": said}


def _costs(verdict: "Verdict", bounds: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Everything between counts and length, and the epsilons."""
    yield "bounds", ""
    for bound, words in bounds.items():
        if bound in verdict.bounds:
            yield "", words.format(*verdict.bounds[bound])
    budget = verdict.plan.budget
    yield "epsilons", f"eps_sec {budget.eps_sec:g}, eps_cor {budget.eps_cor:g}"
    for part in verdict.ledger:
        yield "", f"{part.times} x {float(part.epsilon):.3g}  {part.what}"


def _counts(verdict: "Verdict") -> Iterator[tuple[str, str]]:
    told = verdict.told
    names = INTENSITIES[: len(told.key)] if len(told.key) > 1 else ("",)
    for what, accepted in verdict.plan.limits.accepted.items():
        counts = {"key": told.key, "test": told.test, "errors": told.errors}[what]
        yield (
            what,
            ", ".join(
                f"{name} {count:,} ({_range(least, most)})".strip()
                for name, count, (least, most) in zip(names, counts, accepted, strict=True)
            ),
        )


def _range(least: int, most: int | None) -> str:
    if most is None:
        return f"at least {least:,}"
    return f"{least:,} to {most:,}" if least else f"at most {most:,}"
