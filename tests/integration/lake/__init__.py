"""The lake, snapshots, the cold tier."""
