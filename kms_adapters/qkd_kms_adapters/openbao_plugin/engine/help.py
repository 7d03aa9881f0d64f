"""What the server shows for ``path-help``: the table of paths as text."""

from textwrap import fill, indent

from qkd_kms_adapters.openbao_plugin.engine.fields import Field
from qkd_kms_adapters.openbao_plugin.engine.openapi import openapi
from qkd_kms_adapters.openbao_plugin.engine.paths import PATHS, Path, route

WIDTH = 76
STEP = "    "
ABOUT = (
    "Reads quantum keys from a key management entity (KME) by ETSI GS QKD 014. Write config with"
    " the KME and a client certificate, then a role for each application with the SAE it talks to."
    " keys/ROLE gives a fresh key and its ID, and the other site reads the same key under that ID."
)


def help_data(path: str) -> dict[str, object]:
    """The answer to the operation help: of all paths for "". Raises UnsupportedPath.

    The server makes its OpenAPI of what "" answers, for all mounts, and has none if one refuses.
    """
    if not path:
        return {"help": _overview(), "see_also": None, "openapi": openapi(PATHS)}
    entry, _ = route(path)
    return {"help": _detail(path, entry), "see_also": None, "openapi": openapi((entry,))}


def _overview() -> str:
    lines = [f"{STEP}{path.template}\n{_block(path.synopsis, 2)}" for path in PATHS]
    return "\n\n".join(
        [
            "## DESCRIPTION",
            fill(ABOUT, WIDTH),
            "## PATHS",
            fill("There is more help with each: bao path-help MOUNT/PATH.", WIDTH),
            *lines,
        ]
    )


def _detail(path: str, entry: Path) -> str:
    parts = [f"Request:        {path}\nMatching Route: {entry.template}", entry.synopsis]
    if fields := entry.fields():
        parts += ["## PARAMETERS", *map(_field, fields)]
    by_summary: dict[str, list[str]] = {}
    for operation, act in entry.acts.items():
        by_summary.setdefault(act.summary, []).append(operation)
    summaries = [
        f"{STEP}{', '.join(operations)}\n{_block(summary, 2)}"
        for summary, operations in by_summary.items()
    ]
    parts += ["## OPERATIONS", *summaries, "## DESCRIPTION", fill(entry.description, WIDTH)]
    return "\n\n".join(parts)


def _field(field: Field) -> str:
    text = f"{field.description} Allowed: {field.allowed()}."
    if field.required:
        text += " Required in a first write."
    elif field.default not in (None, ""):
        text += f" Default: {_plain(field.default)}."
    return f"{STEP}{field.name} ({field.kind})\n\n{_block(text, 2)}"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _block(text: str, steps: int) -> str:
    return indent(fill(text, WIDTH - steps * len(STEP)), STEP * steps)
