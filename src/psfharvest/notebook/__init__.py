"""What the notebook's module is made of: its folders and bundles, the tables it is given, and what it says."""
