"""What came of what a person was shown: open slates, the join, links, impressions."""
