"""Steps that any flow may use: source, dead letters, worker, commit, resume, run."""
