"""The recommender asked in process, of the log alone, beside the running system."""
