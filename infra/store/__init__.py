"""Redis as Freshet uses it: one server or a cluster, generations, paused partitions."""
