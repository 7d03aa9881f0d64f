"""Points on which the standard is silent, and what Keyferry does. Another KME may do otherwise."""

from collections.abc import Sequence
from uuid import uuid4

from keyferry.conformance.caller import BAD_REQUEST, UNAUTHORISED, Failed, NotApplicable, sae_path
from keyferry.conformance.get_key_with_ids import given_keys, same_keys
from keyferry.conformance.report import Check, Parties
from keyferry.conformance.shapes import is_error, is_error_object
from keyferry.conformance.status import limits_of

METHOD_NOT_ALLOWED = 405
METHODS = {"status": {"GET"}, "enc_keys": {"GET", "POST"}, "dec_keys": {"GET", "POST"}}
OTHERS = ("PUT", "DELETE", "PATCH")


def other_methods(parties: Parties) -> None:
    for call, allowed in METHODS.items():
        for method in (*OTHERS, *({"POST"} - allowed)):
            answer = parties.a.ask(method, sae_path(parties.b, call))
            if answer.status != METHOD_NOT_ALLOWED:
                raise Failed(f"{method} of {call} was answered {answer.said()}")
            named = {each.strip() for each in answer.headers.get("Allow", "").split(",")}
            if named != allowed:
                raise Failed(
                    f"{method} of {call}: Allow is {answer.headers.get('Allow', 'missing')},"
                    f" not {', '.join(sorted(allowed))}"
                )


def master_is_slave(parties: Parties) -> None:
    is_error(parties.a.ask("POST", sae_path(parties.a, "enc_keys"), {}), BAD_REQUEST)
    is_error(parties.b.keys_with_ids(parties.b, str(uuid4())), BAD_REQUEST)


def empty_additional_slaves(parties: Parties) -> None:
    _refused_slaves(parties, [])


def additional_slave_twice(parties: Parties) -> None:
    """As an additional one, and as the slave itself."""
    limit = _multicast(parties)
    _refused_slaves(parties, [parties.b.sae_id])
    if limit > 1:
        _refused_slaves(parties, [parties.c.sae_id, parties.c.sae_id])


def master_as_additional_slave(parties: Parties) -> None:
    _multicast(parties)
    _refused_slaves(parties, [parties.a.sae_id])


def duplicate_key_ids(parties: Parties) -> None:
    given = given_keys(parties, 1)
    [key_id] = given
    is_error(parties.b.keys_with_ids(parties.a, key_id, key_id), BAD_REQUEST)
    same_keys(given, parties.b.keys_with_ids(parties.a, key_id))


def all_or_nothing(parties: Parties) -> None:
    given = given_keys(parties, 1)
    is_error(parties.b.keys_with_ids(parties.a, *given, str(uuid4())), BAD_REQUEST)
    same_keys(given, parties.b.keys_with_ids(parties.a, *given))


def body_of_a_401(parties: Parties) -> None:
    answer = parties.c.keys_with_ids(parties.a, *given_keys(parties, 1))
    is_error(answer, UNAUTHORISED)
    is_error_object(answer)


def _refused_slaves(parties: Parties, names: Sequence[str]) -> None:
    wanted = {"additional_slave_SAE_IDs": list(names)}
    try:
        is_error(parties.a.ask("POST", sae_path(parties.b, "enc_keys"), wanted), BAD_REQUEST)
    except Failed as error:
        raise Failed(f"additional slaves {list(names)}: {error}") from None


def _multicast(parties: Parties) -> int:
    limit: int = limits_of(parties)["max_SAE_ID_count"]
    if not limit:
        raise NotApplicable("max_SAE_ID_count is 0: no multicast")
    return limit


CHECKS = [
    Check("5.1", "other methods are 405 with Allow", other_methods, ours=True),
    Check("5.3", "an SAE gets no key for itself: 400", master_is_slave, ours=True),
    Check("6.2", "an empty list of additional slaves is 400", empty_additional_slaves, ours=True),
    Check("6.2", "a slave named twice is 400", additional_slave_twice, ours=True),
    Check("6.2", "the master as an additional slave is 400", master_as_additional_slave, ours=True),
    Check("6.4", "a key ID named twice is 400, and the key is left", duplicate_key_ids, ours=True),
    Check("5.4", "a refusal of several key IDs uses up none", all_or_nothing, ours=True),
    Check("6.5", "401 comes with an Error object too", body_of_a_401, ours=True),
]
