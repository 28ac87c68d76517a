"""The simulated catalogues and their query service."""
