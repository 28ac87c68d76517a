"""Ways in which an archive may differ from what is expected of it: a table, and a module a subject."""
