"""Client of the Mashup query service: counts, pages of rows, column types."""
