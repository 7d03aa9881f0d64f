"""Refresh policies and their runs as text for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keyferry.cli.comparison_text import compared
from keyferry.cli.times import moment, span, took, until
from keyferry.operator.policy_rows import length

WIDTH = 100
NAME, SCHEDULE = 20, 16  # at most: a row then fits, whatever it holds
FEW = 4  # generations in one line
LOUD = ("blocked", "refused", "aborted", "late", "old")
HEADINGS = ("", "NAME", "KEY", "SCHEDULE", "DUE IN", "BY", "GEN", "AGE", "STATE")
RUN_HEADINGS = ("GEN", "STATE", "BEGAN (UTC)", "TOOK", "KEY ID", "NATIVE")

Json = Mapping[str, Any]


def list_lines(answer: Json, now: float) -> list[str]:
    """A row each, with its target below it where none would fit beside it, then what is wrong."""
    policies = answer["policies"]
    if not policies:
        return [f"{answer['kme']} has no refresh policies"]
    needy = sum(1 for each in policies if each["attention"])
    number = f"{len(policies)} {'policy' if len(policies) == 1 else 'policies'}"
    needs = f"{needy or 'none'} {'need' if needy > 1 else 'needs'} attention"
    table = in_columns([HEADINGS, *(cells_of(each, now) for each in policies)])
    targets = [f"{each['target']['kind']} {each['target']['place']}" for each in policies]
    beside = len(table[0]) + 2 + max(map(len, targets)) <= WIDTH
    if beside:
        table = [f"{row}  {last}" for row, last in zip(table, ["TARGET", *targets], strict=True)]
    lines = [f"{answer['kme']} with {answer['peer']}: {number}, {needs}", table[0]]
    for each, row, target in zip(policies, table[1:], targets, strict=True):
        below = attention_of(each, now) if beside else (target, *attention_of(each, now))
        lines += [row, *(cut(f"    {note}", WIDTH) for note in below)]
    return [line.rstrip() for line in lines]


def cells_of(row: Json, now: float) -> tuple[str, ...]:
    under_way, since = row["under_way"], row["active_since"]
    return (
        "!" if any(what in row["attention"] for what in LOUD) else "",
        cut(row["name"], NAME),
        f"{row['bits']} {row['algorithm'].replace('-poly1305', '')}",
        cut(row["schedule"], SCHEDULE),
        until(row["next_due"], now),
        "us" if row["initiates"] else "peer",
        str(row["generation"] or "-"),
        "-" if since is None else span(now - since),
        state_of(row, under_way),
    )


def state_of(row: Json, under_way: Json | None) -> str:
    if under_way is not None:
        return str(under_way["state"])
    for what in ("refused", "aborted", "late", "paused"):
        if what in row["attention"]:
            return what
    if row["due"]:
        return "due"
    return "active" if row["generation"] else "new"


def attention_of(row: Json, now: float) -> Iterator[str]:
    for what, why in row["attention"].items():
        since = f" for {span(now - row['late_since'])}" if what == "late" else ""
        yield f"{what if what == 'paused' else what.upper()}{since}: {why}"


def show_lines(row: Json, now: float) -> list[str]:
    since, under_way, peer = row["active_since"], row["under_way"], row["peer"]
    agrees = {True: "agrees", False: "DOES NOT AGREE", None: "not known"}[peer["agrees"]]
    due = "never" if row["next_due"] is None else moment(row["next_due"])
    active = "none yet"
    if since is not None:
        active = f"{row['generation']}, since {moment(since)}, {span(now - since)}"
    told = {
        "policy": row["name"],
        "sites": " and ".join(row["kmes"]),
        "initiator": row["initiator"] + (", this site" if row["initiates"] else ""),
        "key": f"{row['bits']} bits, {row['algorithm']}",
        "schedule": f"{row['schedule']} (UTC)",
        "next due": "paused" if row["paused_by"] else f"{due} ({until(row['next_due'], now)})",
        "target": f"{row['target']['kind']} {row['target']['place']}",
        "grace": length(row["grace_s"]),
        "alarm": "none" if row["max_age_s"] is None else f"older than {length(row['max_age_s'])}",
        "webhook": row["webhook"] or "none",
        "digest": row["digest"],
        "other file": f"{agrees}: {peer['said']}",
        "active": active,
        "in grace": in_grace(row["in_use"][:-1]),
        "both KMSs": compared(row["comparison"]),
        "under way": "none"
        if under_way is None
        else f"{under_way['generation']}, {under_way['state']}, run {under_way['run_id']}",
    }
    if row["webhook"] and row["events_untold"]:
        told["webhook"] += f", {row['events_untold']} not told yet"
    lines = [f"{name:12} {value}" for name, value in told.items()]
    lines += [f"{'attention':12} {note}" for note in attention_of(row, now)]
    lines += [f"{'attention':12} KMS DIFFERS: {each}" for each in row["comparison"]["findings"]]
    return [*lines, "", *run_lines(row["runs"])]


def in_grace(generations: Sequence[int]) -> str:
    """The newest of them."""
    named = ", ".join(map(str, generations[-FEW:])) or "none"
    return f"{named} and {len(generations) - FEW} earlier" if len(generations) > FEW else named


def run_lines(runs: Sequence[Json]) -> list[str]:
    """Newest first, each with its reason below it."""
    if not runs:
        return ["no runs yet"]
    table = in_columns([RUN_HEADINGS, *(run_cells(run) for run in runs)])
    lines = [table[0]]
    for run, line in zip(runs, table[1:], strict=True):
        lines += [line, *([cut(f"      {run['reason']}", WIDTH)] if run["reason"] else [])]
    return [line.rstrip() for line in lines]


def run_cells(run: Json) -> tuple[str, ...]:
    return (
        str(run["generation"]),
        run["state"],
        moment(run["began"]),
        took(run["took_s"]),
        run["key_id"],
        "-" if run["native_version"] is None else str(run["native_version"]),
    )


def in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of one length, with columns as wide as their texts."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True))
        for row in rows
    ]


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
