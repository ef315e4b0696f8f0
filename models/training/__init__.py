"""Training of a release: arrays in, arrays and a verdict out, without a log or a server."""
