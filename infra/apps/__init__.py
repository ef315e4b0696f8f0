"""Programs made of flows, serving and models together; imported by the command line alone."""
