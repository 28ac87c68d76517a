"""Exposures, stars and their pixels."""
