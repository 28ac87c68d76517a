"""The pump and the limiter of an archive: anyio only, nothing of archive or store."""
