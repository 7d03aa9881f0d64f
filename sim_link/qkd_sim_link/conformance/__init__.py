"""What drivers must keep: plain checks that take the devices, for ours and for anyone else's."""
