"""Programs to read, run and copy from; each is run by a test."""
