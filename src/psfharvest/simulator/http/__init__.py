"""The HTTP server of the simulated archive."""
