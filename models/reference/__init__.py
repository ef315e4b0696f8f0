"""The slow definitions: the state that a log must lead to, by plain Python, one record after the other.

They use no fold, array or batch of `flows` or `models.features`, so they check both: laws compare them with
the folds, and `freshet verify` with the state in Redis. Each feature has its own `reference` beside it; this
package defines what needs more than one person's actions. Where the log's beginning is gone, they go on
from a snapshot (`Before`).
"""
