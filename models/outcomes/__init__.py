"""Outcomes of the slates that a person was shown: open slates, the join, links, impressions."""
