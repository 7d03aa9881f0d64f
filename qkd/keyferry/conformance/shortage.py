"""Clause 5.3 at a KME that has too few keys, which may have to be drawn first."""

from keyferry.conformance.caller import OK, UNAVAILABLE, Failed, NotApplicable, sae_path
from keyferry.conformance.report import Check, Parties
from keyferry.conformance.shapes import is_error
from keyferry.conformance.status import limits_of

FEW_REQUESTS = 16  # what is drawn without being asked to


def more_than_is_stored(parties: Parties) -> None:
    """Requests of the most that one may ask for, until one is too much.

    Nothing is used up where the first one is. New keys may come in meanwhile: the KME has failed
    when it gave twice what it said was there.
    """
    limits = limits_of(parties)
    most = limits["max_key_per_request"] * limits["max_key_size"]
    stored = limits["stored_key_count"] * limits["key_size"]
    if stored // most >= FEW_REQUESTS and not parties.draw_dry:
        raise NotApplicable(
            f"{stored // 8} bytes are stored, one request asks for {most // 8} at most:"
            " --draw-dry uses them up"
        )
    wanted = {"number": limits["max_key_per_request"], "size": limits["max_key_size"]}
    n_requests = 2 * stored // most + 1
    for _ in range(n_requests):
        answer = parties.a.ask("POST", sae_path(parties.b, "enc_keys"), wanted)
        if answer.status != OK:
            is_error(answer, UNAVAILABLE)
            return
    raise Failed(f"{n_requests * most // 8} bytes were given, {stored // 8} were stored")


CHECKS = [Check("5.3", "more than is stored is 503", more_than_is_stored)]
