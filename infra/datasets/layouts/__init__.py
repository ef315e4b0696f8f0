"""Layouts of data sets, one a file, each recognised by content, and what of it becomes acts.

| layout | content | an act |
|---|---|---|
| `ratings` | (person, item, rating, time) by header, or in this order without one | `like`, or `view` |
| `recbole` | a header of names with types, as ``user_id:token`` | by its columns: as ratings, or as clicks |
| `clicks` | (session or person, item, time) by header; without one (session, ISO time, item) | `click` |
| `baskets` | codes between commas; or (order, item) by header | `cart` |
| `sequences` | a person and an item, or several, between blanks; or (person, item) by header | `click` |
| `events` | what ``POST /v1/events`` takes: NDJSON, delimited or Parquet | its own |

A header that fits two is the first of: events, atomic files, ratings, baskets, clicks, sequences. Lists of
ids that fit two, a header with a session and an order, and a folder of two sets are refused with what to say.
"""
