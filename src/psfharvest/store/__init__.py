"""The harvest folder: ledger, sinks, lock. Knows nothing of the archive."""
