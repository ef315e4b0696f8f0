"""`lake`: every topic as Parquet files, each record once."""
