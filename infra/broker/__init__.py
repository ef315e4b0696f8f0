"""The embedded broker: one node, kept on disk, that speaks the Kafka protocol.

For a laptop's first hour and for tests; production is Apache Kafka, and the suite in
`tests/contract` runs against both.  Records are kept as `retention.ms` and `retention.bytes` say.
It has no transactions, no KIP-848 groups, no fetch sessions, no leader epochs, no replication and
no compaction: such a request is refused with an error code and logged.
"""
