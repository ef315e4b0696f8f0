"""`freshet import`: history and catalogues from files, of which only what is new is sent."""
