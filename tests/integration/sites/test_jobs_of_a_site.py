"""The work of the jobs process, as it is wired: with short times in the site files."""

from qkd_core.types.ids import Side

SHORT = {
    "checkpoint_s = 5.0": "checkpoint_s = 3600",  # so that only the end of the process signs
    "[store]\n": "[store]\nerase_after_s = 3\nreconcile_s = 2\n",
    "[api]\n": "[api]\nkey_lifetime_s = 3\n",
}


def shorten(pair):
    for side in Side:
        file = pair.settings[side].file
        text = file.read_text()
        for usual, short in SHORT.items():
            assert text.count(usual) == 1
            text = text.replace(usual, short)
        file.write_text(text)


def test_keys_expire_data_keys_end_sites_are_compared_and_the_last_records_are_signed(pair):
    shorten(pair)
    for side in Side:
        pair.start(side)
    pair.open()
    (held,) = pair.until(lambda: pair.fetch(Side.A), "a key that its slave does not fetch")
    apis = dict(pair.running)
    for side in Side:
        pair.start(side, "jobs")

    def seen(side, action):
        return pair.until(lambda: pair.events(side, action), f"{action} at {side}")

    burnt = [fields["key_id"] for fields in seen(Side.B, "key_expired")]
    assert held["key_ID"] in burnt
    assert pair.fetch_by_id(Side.B, held)[0] == 400
    assert {fields["differences"] for fields in seen(Side.A, "reconciled")} == {0}
    for side in Side:
        seen(side, "epoch_destroyed")

    signed = pair.metric(Side.A, "keyferry_audit_signed_records")
    pair.stop(*Side)  # the jobs
    pair.running.update(apis)
    pair.until(
        lambda: pair.metric(Side.A, "keyferry_audit_signed_records") > max(signed, 10),
        "what the jobs process signs at its end",
    )
