"""Checks of an archive against our assumptions about it, by a few polite requests; what they show is kept."""
