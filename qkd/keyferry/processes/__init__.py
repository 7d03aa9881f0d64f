"""Starting processes, keeping them up, and ending them together."""
