"""What a simulated link gives in so much time, beside what its physics says."""
