"""The values that flows keep in Redis: fences, facts, tables, links, vectors, and a whole write."""
