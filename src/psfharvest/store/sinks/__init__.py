"""Where verified bytes are stored: files, shards, Parquet."""
