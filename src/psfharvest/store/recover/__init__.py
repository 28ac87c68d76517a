"""Checking a folder against its manifest, and making a manifest anew."""
