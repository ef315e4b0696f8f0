"""The embedded broker: one node, kept on disk, that speaks the Kafka protocol.

For a laptop's first hour and for tests; production is Apache Kafka, and the suite in
`tests/contract` runs against both.  It has no transactions, no KIP-848 groups, no fetch
sessions, no replication and no retention.
"""
