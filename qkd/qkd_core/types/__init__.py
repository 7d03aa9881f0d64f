"""The nouns: identities, blocks and their plans, keys and their allocations."""
