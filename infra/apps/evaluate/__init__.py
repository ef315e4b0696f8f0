"""What the product would have recommended on any data, in process: protocols, arms, figures, report."""
