"""The key store of one site: blocks, keys, pads and refresh runs, each change with its record."""
