"""Two KMEs that agree on who has which bytes: allocations told, deeds told, ranges ceded."""
