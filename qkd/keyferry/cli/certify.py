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
    from keyferry.private_files import private_folder, write_private
    from qkd_core.errors import ConfigError

    store = load(site).store
    private_folder(out)
    files = []
    for number, certificate in _stored(store, block):
        files.append(out / f"block-{number:06}.json")
        write_private(files[-1], certificate.encode() + b"\n")
        _progress(f"{len(files)} written")
    _progress("")
    if block is not None and not files:
        raise ConfigError(f"{store}: holds no block {block}")
    if as_json:
        click.echo(json.dumps({"files": [str(file) for file in files]}))
    else:
        n = "1 certificate" if len(files) == 1 else f"{len(files)} certificates"
        click.echo(f"{out}: {n}, to derive again with keyferry certify")


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
        "ledger": [
            {"what": part.what, "epsilon": float(part.epsilon), "times": part.times}
            for part in verdict.ledger
        ],
    }


def statement(name: str, verdict: "Verdict") -> list[str]:
    """For people: what the length of the key rests on."""
    plan, told, budget = verdict.plan, verdict.told, verdict.plan.budget
    lines = [
        ("block", f"{plan.block_id} of link {plan.link_id}, {plan.provenance}"),
        ("theorem", f"{verdict.theorem}, version {verdict.version}: {verdict.source}"),
        *_counts(verdict),
        ("disclosed", f"{told.leak_ec:,} bits count, planned for {budget.leak_ec_max:,}"),
        ("bounds", ""),
        *(
            ("", words.format(*verdict.bounds[bound]))
            for bound, words in BOUNDS.items()
            if bound in verdict.bounds
        ),
        ("epsilons", f"eps_sec {budget.eps_sec:g}, eps_cor {budget.eps_cor:g}"),
        *(
            ("", f"{part.times} x {float(part.epsilon):.3g}  {part.what}")
            for part in verdict.ledger
        ),
        ("key", f"{plan.n_secret:,} bits, at most {verdict.n_secret_max:,} are certain"),
        ("assumed", "what the theorem asks of source, detectors and sites: no file can show it"),
        ("told", f"{told.n_errors:,} errors corrected: no bound depends on them"),
    ]
    return [f"{name}: holds", *(f"  {what:11} {text}".rstrip() for what, text in lines)]


def _counts(verdict: "Verdict") -> Iterator[tuple[str, str]]:
    told = verdict.told
    names = INTENSITIES if len(told.key) == len(INTENSITIES) else ("",)
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
