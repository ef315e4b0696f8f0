"""What flows keep in Redis, beside its keys: fences, facts, tables, links, vectors, and a whole write."""
