"""The slow definitions: what a log must have ended in, by plain Python, one record after the other.

No fold, no array, no batch of `flows` or `models.features` is behind them, so they check both: laws
compare them with the folds, and `freshet verify` with what Redis holds. Beside each feature stands its
own `reference`; here is everything that needs more than one person's actions. They go on from a snapshot
(`Before`) where the log's beginning is gone.
"""
