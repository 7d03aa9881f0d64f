"""What must hold in every world of `refresh_model`, whatever came before."""

from refresh_model import AGREED, WRITTEN, S, World


def broken_promise(world: World) -> str | None:
    """What is wrong with ``world``; None when nothing is."""
    runs = {world.a.run, world.b.run}
    written = world.a.kms >= WRITTEN or world.b.kms >= WRITTEN
    if S.SUPERSEDED in runs and S.DONE in runs:
        return "superseded at one site and done at the other"
    if S.ABORTED in runs and (S.DONE in runs or written):
        return "aborted and yet written"
    for own, other in ((world.a, world.b), (world.b, world.a)):
        if own.kms == AGREED and other.kms < WRITTEN:
            return "agreed on a key that the other KMS does not have"
        if own.kms == AGREED and runs & {S.SUPERSEDED, S.ABORTED}:
            return "agreed on and given up"
        if own.run is S.DONE and own.kms != AGREED:
            return "done and not agreed on"
    return None
