"""Clauses 5.3, 6.2 and 6.3: get key."""

from keyferry.conformance.caller import (
    BAD_REQUEST,
    OK,
    UNAUTHORISED,
    UNAVAILABLE,
    Failed,
    NotApplicable,
    sae_path,
)
from keyferry.conformance.report import Check, Parties
from keyferry.conformance.shapes import (
    are_keys,
    is_error,
    secrets_by_id,
)
from keyferry.conformance.status import NOBODY, limits_of

NOT_MULTIPLE_OF_8 = "size shall be a multiple of 8"
UNKNOWN_MANDATORY = "not all extension_mandatory parameters are supported"
NOT_MET = "not all extension_mandatory request options could be met"
NOT_ALL_OPTIONAL = "not all extension_optional request options handled"
EXTENSION = [{"keyferryconformance_no_such_option": True}]
KEYS_OF_NOTHING: list[dict[str, list[str]]] = [{"keyferry_provenance": []}]


def get_without_query(parties: Parties) -> None:
    _default_key(parties, "GET", None)


def post_of_an_empty_object(parties: Parties) -> None:
    _default_key(parties, "POST", {})


def post_without_body(parties: Parties) -> None:
    _default_key(parties, "POST", None)


def number_and_size_by_query(parties: Parties) -> None:
    number, n_bits = _two_of_the_smallest(parties)
    query = f"?number={number}&size={n_bits}"
    keys = parties.a.patiently("GET", sae_path(parties.b, "enc_keys") + query)
    are_keys(keys, number, n_bits)


def number_and_size_by_body(parties: Parties) -> None:
    number, n_bits = _two_of_the_smallest(parties)
    are_keys(parties.a.new_keys(parties.b, number=number, size=n_bits), number, n_bits)


def key_container(parties: Parties) -> None:
    answer = parties.a.ask("POST", sae_path(parties.b, "enc_keys"), {})
    if answer.status == UNAVAILABLE:
        raise NotApplicable(f"no key is there: {answer.said()}")
    if not secrets_by_id(answer):
        raise Failed("the key container is empty")
    if not isinstance(answer.json().get("key_container_extension", {}), dict):
        raise Failed("key_container_extension is not an object")


def never_the_same_key(parties: Parties) -> None:
    n_bits = max(128, limits_of(parties)["min_key_size"])
    seen: dict[str, bytes] = {}
    for _ in range(4):
        fresh = secrets_by_id(parties.a.new_keys(parties.b, number=1, size=n_bits))
        if seen.keys() & fresh.keys() or set(seen.values()) & set(fresh.values()):
            raise Failed("a key was given twice")
        seen |= fresh


def smallest_and_largest(parties: Parties) -> None:
    limits = limits_of(parties)
    for name in ("min_key_size", "max_key_size"):
        n_bits = limits[name]
        are_keys(parties.a.new_keys(parties.b, number=1, size=n_bits), 1, n_bits)


def most_keys(parties: Parties) -> None:
    limits = limits_of(parties)
    number, n_bits = limits["max_key_per_request"], limits["min_key_size"]
    are_keys(parties.a.new_keys(parties.b, number=number, size=n_bits), number, n_bits)


def too_many_keys(parties: Parties) -> None:
    _refused(parties, number=limits_of(parties)["max_key_per_request"] + 1)


def too_large_a_key(parties: Parties) -> None:
    _refused(parties, size=limits_of(parties)["max_key_size"] + 8)


def too_small_a_key(parties: Parties) -> None:
    smallest = limits_of(parties)["min_key_size"]
    if smallest <= 8:  # noqa: PLR2004 (below a byte nothing is left to ask)
        raise NotApplicable(f"min_key_size is {smallest}")
    _refused(parties, size=8 * ((smallest - 1) // 8))


def no_keys(parties: Parties) -> None:
    _refused(parties, number=0)


def number_that_is_none(parties: Parties) -> None:
    for number in ("two", [1], None, 1.5):
        _refused(parties, number=number)


def size_not_a_multiple_of_8(parties: Parties) -> None:
    limits = limits_of(parties)
    n_bits = limits["key_size"] + (1 if limits["key_size"] < limits["max_key_size"] else -7)
    answer = parties.a.ask("POST", sae_path(parties.b, "enc_keys"), {"size": n_bits})
    if answer.status == OK:
        are_keys(answer.json().get("keys", []), 1, n_bits)
        raise NotApplicable("this KME makes keys of any number of bits")
    is_error(answer, BAD_REQUEST, message=NOT_MULTIPLE_OF_8)


def unknown_mandatory_extension(parties: Parties) -> None:
    _refused(parties, message=UNKNOWN_MANDATORY, extension_mandatory=EXTENSION)


def unmeetable_extension(parties: Parties) -> None:
    wanted = {"extension_mandatory": KEYS_OF_NOTHING}
    answer = parties.a.ask("POST", sae_path(parties.b, "enc_keys"), wanted)
    is_error(answer, BAD_REQUEST)
    if answer.json()["message"] == UNKNOWN_MANDATORY:
        raise NotApplicable("this KME knows no extension that is known here")
    is_error(answer, BAD_REQUEST, message=NOT_MET)


def unknown_optional_extension(parties: Parties) -> None:
    path = sae_path(parties.b, "enc_keys")
    answer = parties.a.ask("POST", path, {"extension_optional": EXTENSION})
    if answer.status == BAD_REQUEST:
        is_error(answer, BAD_REQUEST, message=NOT_ALL_OPTIONAL)
        return
    are_keys(
        parties.a.new_keys(parties.b, extension_optional=EXTENSION),
        1,
        limits_of(parties)["key_size"],
    )


def body_that_is_not_json(parties: Parties) -> None:
    for raw in (b"{", b'{"number": 1', b"number=1", b"\xff\xfe"):
        is_error(parties.a.ask("POST", sae_path(parties.b, "enc_keys"), raw=raw), BAD_REQUEST)


def key_for_nobody(parties: Parties) -> None:
    is_error(parties.a.ask("POST", sae_path(NOBODY, "enc_keys"), {}), BAD_REQUEST, UNAUTHORISED)


def additional_slave(parties: Parties) -> None:
    _needs_multicast(parties)
    wanted = {"number": 1, "additional_slave_SAE_IDs": [parties.c.sae_id]}
    given = secrets_by_id(parties.a.new_keys(parties.b, **wanted))
    for slave in (parties.b, parties.c):
        if secrets_by_id(slave.keys_with_ids(parties.a, *given)) != given:
            raise Failed(f"{slave.sae_id} got another key than the master")


def too_many_additional_slaves(parties: Parties) -> None:
    limit = limits_of(parties)["max_SAE_ID_count"]
    names = [parties.c.sae_id, *(f"{NOBODY}-{i}" for i in range(limit))]
    _refused(parties, additional_slave_SAE_IDs=names)


def _two_of_the_smallest(parties: Parties) -> tuple[int, int]:
    limits = limits_of(parties)
    return min(2, limits["max_key_per_request"]), limits["min_key_size"]


def _default_key(parties: Parties, method: str, body: object) -> None:
    keys = parties.a.patiently(method, sae_path(parties.b, "enc_keys"), body)
    are_keys(keys, 1, limits_of(parties)["key_size"])


def _refused(parties: Parties, message: str | None = None, **wanted: object) -> None:
    answer = parties.a.ask("POST", sae_path(parties.b, "enc_keys"), wanted)
    try:
        is_error(answer, BAD_REQUEST, message=message)
    except Failed as error:
        raise Failed(f"{', '.join(wanted)} {str(list(wanted.values()))[:60]}: {error}") from None


def _needs_multicast(parties: Parties) -> None:
    if not limits_of(parties)["max_SAE_ID_count"]:
        raise NotApplicable("max_SAE_ID_count is 0: no multicast")


CHECKS = [
    Check("6.2", "GET without a query gives one key of the default size", get_without_query),
    Check("6.2", "POST of an empty object gives the same", post_of_an_empty_object),
    Check("6.2", "POST without a body gives the same", post_without_body),
    Check("6.2", "number and size by GET", number_and_size_by_query),
    Check("6.2", "number and size by POST", number_and_size_by_body),
    Check("6.3", "a key container has keys with a UUID and base64", key_container),
    Check("5.3", "a key leaves the pool once", never_the_same_key),
    Check("6.1", "keys of the smallest and the largest size are given", smallest_and_largest),
    Check("6.1", "as many keys as max_key_per_request are given", most_keys),
    Check("6.2", "more keys than max_key_per_request are 400", too_many_keys),
    Check("6.2", "a size above max_key_size is 400", too_large_a_key),
    Check("6.2", "a size below min_key_size is 400", too_small_a_key),
    Check("6.2", "number 0 is 400", no_keys),
    Check("6.2", "a number that is no integer is 400", number_that_is_none),
    Check("6.2", f"'{NOT_MULTIPLE_OF_8}'", size_not_a_multiple_of_8),
    Check("6.2", f"'{UNKNOWN_MANDATORY}'", unknown_mandatory_extension),
    Check("6.2", f"'{NOT_MET}'", unmeetable_extension),
    Check("6.2", "an unknown optional extension is ignored", unknown_optional_extension),
    Check("5.3", "a body that is not JSON is 400", body_that_is_not_json),
    Check("5.3", "a key for an unknown SAE is an error", key_for_nobody),
    Check("6.2", "an additional slave gets the same key", additional_slave),
    Check(
        "6.2", "more additional slaves than max_SAE_ID_count are 400", too_many_additional_slaves
    ),
]
