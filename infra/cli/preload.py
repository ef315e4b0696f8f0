"""Imports that the processes of `freshet up` share, for the fork server: none may start a thread."""

# ruff: noqa: F401

import infra.broker.server
import infra.cli.verify
import infra.kafka.kafka_client
import infra.lake.keep
import infra.local.services
import serving.server
from infra.cli.run import module_of
from schemas.flows import FLOWS

for flow in FLOWS:
    module_of(flow.name)
