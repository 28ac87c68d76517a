"""The only code that speaks to MAST."""
