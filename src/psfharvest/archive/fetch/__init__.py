"""Downloading cutouts: singly, in bundles, or whichever is faster."""
