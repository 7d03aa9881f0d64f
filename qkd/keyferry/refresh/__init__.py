"""Refresh runs of one site: what is due, who takes the next step, and what an operator decides."""
