"""The harvest folder: manifest, sinks, lock. Knows nothing of the archive."""
