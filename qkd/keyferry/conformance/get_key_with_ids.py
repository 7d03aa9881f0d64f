"""Clauses 5.4, 6.4 and 6.5: get key with key IDs, and the Error object."""

from typing import Any
from uuid import uuid4

from keyferry.conformance.caller import BAD_REQUEST, UNAUTHORISED, Failed, sae_path
from keyferry.conformance.report import Check, Parties
from keyferry.conformance.shapes import is_error, secrets_by_id

NOT_FOUND = "one or more keys specified are not found on KME"


def slave_gets_the_same_key(parties: Parties) -> None:
    given = given_keys(parties, 1)
    same_keys(given, parties.b.keys_with_ids(parties.a, *given))


def other_direction(parties: Parties) -> None:
    given = secrets_by_id(parties.b.new_keys(parties.a, number=1))
    same_keys(given, parties.a.keys_with_ids(parties.b, *given))


def one_key_id_by_get(parties: Parties) -> None:
    [(key_id, secret)] = given_keys(parties, 1).items()
    path = sae_path(parties.a, "dec_keys") + f"?key_ID={key_id}"
    same_keys({key_id: secret}, parties.b.ask("GET", path))


def several_key_ids(parties: Parties) -> None:
    given = given_keys(parties, 3)
    same_keys(given, parties.b.keys_with_ids(parties.a, *reversed(given)))


def extensions_of_key_ids(parties: Parties) -> None:
    given = given_keys(parties, 1)
    [key_id] = given
    wanted = {"key_IDs": [{"key_ID": key_id, "key_ID_extension": {}}], "key_IDs_extension": {}}
    same_keys(given, parties.b.ask("POST", sae_path(parties.a, "dec_keys"), wanted))


def once_per_slave(parties: Parties) -> None:
    given = given_keys(parties, 1)
    same_keys(given, parties.b.keys_with_ids(parties.a, *given))
    is_error(parties.b.keys_with_ids(parties.a, *given), BAD_REQUEST, message=NOT_FOUND)


def unknown_key_id(parties: Parties) -> None:
    answer = parties.b.keys_with_ids(parties.a, str(uuid4()))
    is_error(answer, BAD_REQUEST, message=NOT_FOUND)


def one_unknown_of_several(parties: Parties) -> None:
    given = given_keys(parties, 1)
    answer = parties.b.keys_with_ids(parties.a, *given, str(uuid4()))
    is_error(answer, BAD_REQUEST, message=NOT_FOUND)


def key_of_another_sae(parties: Parties) -> None:
    given = given_keys(parties, 1)
    is_error(parties.c.keys_with_ids(parties.a, *given), UNAUTHORISED)
    same_keys(given, parties.b.keys_with_ids(parties.a, *given))


def some_key_of_another_sae(parties: Parties) -> None:
    for_b = given_keys(parties, 1)
    for_c = secrets_by_id(parties.a.new_keys(parties.c, number=1))
    is_error(parties.c.keys_with_ids(parties.a, *for_c, *for_b), UNAUTHORISED)


def malformed_key_ids(parties: Parties) -> None:
    path = sae_path(parties.a, "dec_keys")
    bodies: list[object] = [{}, {"key_IDs": []}, {"key_IDs": "x"}, {"key_IDs": [{}]}, []]
    for body in bodies:
        try:
            is_error(parties.b.ask("POST", path, body), BAD_REQUEST)
        except Failed as error:
            raise Failed(f"{body}: {error}") from None
    is_error(parties.b.ask("POST", path, raw=b"{"), BAD_REQUEST)


def error_object(parties: Parties) -> None:
    is_error(parties.b.keys_with_ids(parties.a, str(uuid4())), BAD_REQUEST)
    is_error(parties.a.ask("POST", sae_path(parties.b, "enc_keys"), {"number": 0}), BAD_REQUEST)
    is_error(parties.a.ask("POST", sae_path(parties.b, "enc_keys"), raw=b"["), BAD_REQUEST)


def given_keys(parties: Parties, number: int) -> dict[str, bytes]:
    """Keys of A for B, one request each. Raises Failed."""
    keys: list[dict[str, Any]] = []
    for _ in range(number):
        keys += parties.a.new_keys(parties.b, number=1)
    return secrets_by_id(keys)


def same_keys(given: dict[str, bytes], answer: Any) -> None:
    """Raises Failed unless ``answer`` delivers exactly the ``given`` keys."""
    if secrets_by_id(answer) != given:
        raise Failed("the slave's keys are not the master's")


CHECKS = [
    Check("5.4", "the slave gets the master's key by its ID", slave_gets_the_same_key),
    Check("5.4", "and in the other direction", other_direction),
    Check("6.4", "GET with one key_ID", one_key_id_by_get),
    Check("6.4", "POST with several key IDs", several_key_ids),
    Check("6.4", "extensions of key IDs are taken", extensions_of_key_ids),
    Check("5.4", "a key leaves once for each slave", once_per_slave),
    Check("6.4", f"unknown: '{NOT_FOUND}'", unknown_key_id),
    Check("6.4", f"one of several unknown: '{NOT_FOUND}'", one_unknown_of_several),
    Check("5.4", "an SAE that the key was not for is 401", key_of_another_sae),
    Check("5.4", "so it is when that holds for one of several keys", some_key_of_another_sae),
    Check("5.4", "malformed key IDs are 400", malformed_key_ids),
    Check("6.5", "an Error object has a message, and details that are objects", error_object),
]
