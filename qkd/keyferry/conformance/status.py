"""Clauses 5.2 and 6.1: get status."""

from typing import Any

from keyferry.conformance.caller import Failed, sae_path
from keyferry.conformance.report import Check, Parties
from keyferry.conformance.shapes import STATUS_NUMBERS, STATUS_TEXTS, has_items, is_error

NOBODY = "keyferry-conformance-nobody"


def limits_of(parties: Parties) -> dict[str, Any]:
    """The status of A for B, with every number that the standard has. Raises Failed."""
    fields = parties.a.status(parties.b)
    has_items(fields, STATUS_NUMBERS, int)
    return fields


def status_items(parties: Parties) -> None:
    fields = parties.a.status(parties.b)
    has_items(fields, STATUS_TEXTS, str)
    has_items(fields, STATUS_NUMBERS, int)
    if not isinstance(fields.get("status_extension", {}), dict):
        raise Failed("status_extension is not an object")


def status_names_the_saes(parties: Parties) -> None:
    for master, slave in ((parties.a, parties.b), (parties.a, parties.c), (parties.b, parties.a)):
        fields = master.status(slave)
        named = fields.get("master_SAE_ID"), fields.get("slave_SAE_ID")
        if named != (master.sae_id, slave.sae_id):
            raise Failed(f"names {named} for {master.sae_id} and {slave.sae_id}")


def status_names_the_kmes(parties: Parties) -> None:
    there, back = parties.a.status(parties.b), parties.b.status(parties.a)
    ends = there.get("source_KME_ID"), there.get("target_KME_ID")
    if ends != (back.get("target_KME_ID"), back.get("source_KME_ID")):
        raise Failed(f"from {parties.a.sae_id} the KMEs are {ends}, and back they are others")


def status_sizes_fit(parties: Parties) -> None:
    fields = limits_of(parties)
    if not 0 < fields["min_key_size"] <= fields["key_size"] <= fields["max_key_size"]:
        raise Failed(
            f"min_key_size {fields['min_key_size']}, key_size {fields['key_size']},"
            f" max_key_size {fields['max_key_size']}"
        )
    if fields["max_key_per_request"] < 1 or fields["max_SAE_ID_count"] < 0:
        raise Failed(
            f"max_key_per_request {fields['max_key_per_request']},"
            f" max_SAE_ID_count {fields['max_SAE_ID_count']}"
        )


def status_counts_fit(parties: Parties) -> None:
    fields = limits_of(parties)
    if not 0 <= fields["stored_key_count"] <= fields["max_key_count"]:
        raise Failed(
            f"stored_key_count {fields['stored_key_count']}, max_key_count"
            f" {fields['max_key_count']}"
        )


def status_of_nobody(parties: Parties) -> None:
    is_error(parties.a.ask("GET", sae_path(NOBODY, "status")))


CHECKS = [
    Check("6.1", "status has every item of the table, of its type", status_items),
    Check(
        "6.1",
        "status names the calling SAE as master and the other as slave",
        status_names_the_saes,
    ),
    Check("6.1", "both KMEs name each other", status_names_the_kmes),
    Check("6.1", "sizes and limits fit together", status_sizes_fit),
    Check("6.1", "stored_key_count is at most max_key_count", status_counts_fit),
    Check("5.2", "status for an unknown SAE is an error of table 4", status_of_nobody),
]
