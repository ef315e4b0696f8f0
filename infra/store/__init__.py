"""Redis as we use it: one server or a cluster, generations, pauses."""
