"""Decisions only: no I/O, no clock, no randomness. Time and draws come in as arguments."""
