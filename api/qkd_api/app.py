"""The HTTP application of one KME, built from the parts that it is given."""

from collections.abc import Callable
from dataclasses import dataclass

from flask import Blueprint, Flask, Response, g, request
from werkzeug.exceptions import MethodNotAllowed, NotFound

from qkd_api import problems
from qkd_api.arguments import LARGEST_BODY_BYTES
from qkd_api.etsi014 import etsi014
from qkd_api.identity import Identities, presented_certificate
from qkd_api.metrics import HttpErrors
from qkd_api.peer import peer
from qkd_api.trust import PeerCertificate
from qkd_api.witness import Rider, let_ride
from qkd_core.errors import NotAuthorised
from qkd_core.keys.issuing import Issuing
from qkd_core.ports import AllocationStore
from qkd_core.types.ids import KmeId, SaeId, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """What the application is made of.

    peer_blueprints  further views under /peer/v1, open to the peer KME only
    rider            puts marks on the messages of the inter-KME API; None without a witness
    delivered        called after each delivery to a master SAE
    trusted          raises NotAuthorised for a certificate that is revoked by now
    """

    issuing: Issuing
    allocations: AllocationStore
    side: Side
    peer_kme: KmeId
    key_size: int
    identities: Identities
    errors: HttpErrors
    delivered: Callable[[], None]
    trusted: Callable[[PeerCertificate], None]
    peer_blueprints: tuple[Blueprint, ...] = ()
    rider: Rider | None = None


def create_app(parts: Dependencies) -> Flask:
    """The application; it takes the caller's identity from gunicorn's TLS socket."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY_BYTES + 1  # one more, to see that it is above
    app.url_map.merge_slashes = False  # an SAE ID may hold any characters
    app.json.sort_keys = False  # type: ignore[attr-defined]  # an attribute of Flask's default

    def caller_sae() -> SaeId:
        return SaeId(g.caller)

    app.before_request(lambda: admit(parts))
    app.before_request(refuse_implicit_methods)
    if parts.rider is not None:
        let_ride(app, parts.rider)
    app.after_request(lambda answer: finish(answer, parts.errors))
    problems.install(app)
    app.register_blueprint(etsi014(parts.issuing, parts.key_size, caller_sae, parts.delivered))
    may_pull = parts.rider.may_pull if parts.rider is not None else lambda key_id: True
    app.register_blueprint(peer(parts.allocations, parts.side, may_pull))
    for blueprint in parts.peer_blueprints:
        app.register_blueprint(blueprint)
    return app


def admit(parts: Dependencies) -> None:
    """Only SAEs call the key delivery API, only the peer KME the inter-KME API.

    Leaves the caller in ``g.caller``. Raises NotAuthorised; NotFound for any other path.
    """
    certificate = presented_certificate()
    parts.trusted(certificate)
    if request.path.startswith("/peer/"):
        g.caller = parts.identities.kme(certificate)
        if g.caller != parts.peer_kme:
            raise NotAuthorised(f"KME {g.caller} is not the peer of this KME")
    elif request.path.startswith("/api/"):
        g.caller = parts.identities.sae(certificate)
    else:
        raise NotFound("there is nothing at this path")


def refuse_implicit_methods() -> None:
    """HEAD and OPTIONS, which Flask would answer by itself. Raises MethodNotAllowed."""
    rule = request.url_rule
    if rule is not None and request.method in problems.IMPLICIT_METHODS:
        raise MethodNotAllowed(sorted(rule.methods or ()))


def finish(answer: Response, errors: HttpErrors) -> Response:
    answer.headers["Cache-Control"] = "no-store"
    errors.note(answer.status_code)
    return answer
