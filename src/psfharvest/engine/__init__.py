"""The pump and its traffic rules: anyio only, nothing of archive or store."""
