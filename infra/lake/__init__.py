"""The lake: every topic as Parquet, here or in a bucket. The log as written, kept for ever."""
