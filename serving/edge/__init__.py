"""From the bytes of requests to records: pure, no clock, no socket."""
