"""Eve at work on a simulated link, for tests: no scenario, command or engine can ask for her."""
