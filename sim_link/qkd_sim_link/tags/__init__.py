"""Work on streams of time tags: order, gates, correlations, and the clocks of two ends."""
