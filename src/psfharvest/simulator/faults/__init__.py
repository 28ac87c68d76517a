"""Faults on demand: their grammar and their bookkeeping."""
