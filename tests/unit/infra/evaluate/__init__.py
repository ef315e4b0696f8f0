"""The evaluation on any data: protocols, delays, figures, report."""
