"""`freshet tail`: watch the records of a topic, and the readouts of experiments."""
