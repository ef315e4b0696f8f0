"""Statistics of experiments: who is in which variant, what may be said of them, and how surely."""
