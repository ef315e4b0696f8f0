"""The fetch path's own parts, without a broker."""
