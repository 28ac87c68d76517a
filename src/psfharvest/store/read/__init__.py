"""The public reader of a harvest folder."""
