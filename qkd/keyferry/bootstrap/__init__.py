"""Where the parts of a site are chosen and joined, process by process; nowhere else is."""
