"""The SQLite manifest; the only package with SQL text."""
