"""What the processes of `freshet up` import, for the fork server: nothing here may start a thread."""

# ruff: noqa: F401

import flows.catalogue
import flows.control
import flows.lake.dataflow
import flows.people.dataflow
import flows.relay.dataflow
import flows.rollup.dataflow
import infra.broker.server
import infra.cli.run
import infra.cli.verify
import infra.kafka.client
import infra.lake.keep
import infra.local.services
import serving.server
