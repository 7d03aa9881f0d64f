"""What the ports of a store promise, as plain functions; see `keyferry.store.conformance`."""
