"""Made again beside what is live: filled from snapshot and log, then swapped in."""
