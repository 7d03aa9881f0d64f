"""Device drivers: each implements AliceDevice or BobDevice of `qkd_core.ports`."""
