"""Client of MAST: the only package that sends requests to the archive."""
