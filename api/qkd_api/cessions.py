"""The inter-KME API for a site that is short of key: it asks, and its peer cedes by the rule.

    POST /peer/v1/cessions/wanted  {"free_bytes", "drained_bytes_per_s"}  ->  {"ceded_bytes"}

The ranges follow as notices.
"""

from collections.abc import Callable

from flask import Blueprint
from flask.typing import ResponseReturnValue

from qkd_api.arguments import body_object, integer, number
from qkd_core.errors import BadKeyRequest
from qkd_core.keys.ceding import Stock


def cessions(cede_to: Callable[[Stock], int]) -> Blueprint:
    """``cede_to``: give to a peer with this stock what the rule says; returns how many bytes."""
    views = Blueprint("cessions", __name__, url_prefix="/peer/v1/cessions")

    @views.post("/wanted")
    def wanted() -> ResponseReturnValue:
        fields = body_object()
        stock = Stock(
            free_bytes=integer(fields, "free_bytes"),
            drained_bytes_per_s=number(fields, "drained_bytes_per_s"),
        )
        if stock.free_bytes < 0 or stock.drained_bytes_per_s < 0:
            raise BadKeyRequest(f"free_bytes {stock.free_bytes}, a stock is not negative")
        return {"ceded_bytes": cede_to(stock)}

    return views
