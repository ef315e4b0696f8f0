"""The log folded without a broker, and asked in SQL."""
