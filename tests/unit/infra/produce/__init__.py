"""The produce path's own parts, without a broker."""
