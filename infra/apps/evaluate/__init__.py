"""The recommender in process, from the log alone, compared with the running system."""
