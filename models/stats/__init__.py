"""Statistics of experiments: what may be said of them, and how surely."""
