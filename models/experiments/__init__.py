"""Statistics of experiments: assignment of people to variants, metrics, and their intervals."""
