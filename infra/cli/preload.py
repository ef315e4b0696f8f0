"""What the processes of `freshet up` import, for `infra.forkserver`: nothing here may start a thread."""

# ruff: noqa: F401

import flows.catalogue
import flows.control
import flows.lake.dataflow
import flows.people.dataflow
import flows.relay.dataflow
import flows.rollup.dataflow
import infra.broker.server
import infra.cli.lake_keep
import infra.cli.run
import infra.cli.verify
import infra.kafka
import infra.services
import serving.server
