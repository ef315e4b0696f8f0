"""What judges a release or a recommender: ranked lists held out, and the gate."""
