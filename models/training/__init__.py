"""Learning a release: arrays in, arrays and a verdict out. Nothing here knows a log or a server."""
