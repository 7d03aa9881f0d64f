"""A simulated link that runs: what its devices do, who asks them, and how it is disturbed."""
