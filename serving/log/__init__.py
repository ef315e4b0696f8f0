"""Records to Kafka, and their queues while it is away."""
