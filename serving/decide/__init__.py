"""One decision, a function of its arguments: no clock, no socket."""
