"""Bridges between threads and event loops."""
