"""What can be asked for: detectors, columns, criteria, queries and their partition."""
