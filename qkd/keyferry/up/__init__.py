"""``keyferry up``: two sites, their link and their OpenBao servers on one machine."""
