"""The rollback witness: what each site remembers of the other, and what that forbids."""
