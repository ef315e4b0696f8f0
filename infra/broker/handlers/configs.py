"""DescribeConfigs, AlterConfigs, IncrementalAlterConfigs: of topics; a broker's are read only."""

from __future__ import annotations

from typing import Any

from kafka.protocol.admin import (
    AlterConfigsResponse,
    DescribeConfigsResponse,
    IncrementalAlterConfigsResponse,
)

from infra.broker.codes import Code, Refused
from infra.broker.configs import BROKER, CONFIGS, check
from infra.broker.node import NODE_ID, Broker
from infra.broker.wire import Call

TOPIC, NODE = 2, 4  # resource types
SET, DELETE = 0, 1  # operations of an incremental change
FROM_TOPIC, FROM_DEFAULT = 1, 5
RESULT = DescribeConfigsResponse.DescribeConfigsResult
VALUE = RESULT.DescribeConfigsResourceResult


async def describe(broker: Broker, call: Call) -> Any:
    """Every config that exists, with its value and where that comes from."""
    results = []
    for asked in call.request.resources:
        error, reason, values = Code.NONE, None, []
        try:
            values = _values(broker, asked)
        except Refused as refused:
            error, reason = refused.code, refused.reason
        results.append(
            RESULT(
                error_code=error,
                error_message=reason,
                resource_type=asked.resource_type,
                resource_name=asked.resource_name,
                configs=values,
            )
        )
    return DescribeConfigsResponse(throttle_time_ms=0, results=results)


def _values(broker: Broker, asked: Any) -> list[Any]:
    keys = asked.configuration_keys
    if asked.resource_type == TOPIC:
        own = broker.catalogue.named(asked.resource_name).configs
        shown = {
            name: (own.get(name, known.default), name in own, known.kind)
            for name, known in CONFIGS.items()
        }
    elif asked.resource_type == NODE and asked.resource_name in ("", str(NODE_ID)):
        shown = {name: (value, False, 0) for name, value in BROKER.items()}
        shown["num.partitions"] = (str(broker.partitions), False, 3)
        shown["auto.create.topics.enable"] = (str(broker.auto_create).lower(), False, 1)
    else:
        raise Refused(Code.INVALID_REQUEST, "only topics and this broker have configs")
    return [
        VALUE(
            name=name,
            value=value,
            read_only=asked.resource_type == NODE,
            config_source=FROM_TOPIC if own_value else FROM_DEFAULT,
            is_default=not own_value,
            is_sensitive=False,
            synonyms=[],
            config_type=kind,
            documentation=None,
        )
        for name, (value, own_value, kind) in shown.items()
        if keys is None or name in keys
    ]


async def alter(broker: Broker, call: Call) -> Any:
    """Replaces all configs of a topic."""

    def change(_: dict[str, str], asked: Any) -> dict[str, str | None]:
        return {row.name: row.value for row in asked.configs}

    return _alter(broker, call, AlterConfigsResponse, change)


async def alter_some(broker: Broker, call: Call) -> Any:
    """Sets or deletes single configs of a topic."""

    def change(own: dict[str, str], asked: Any) -> dict[str, str | None]:
        new: dict[str, str | None] = dict(own)
        for row in asked.configs:
            if row.config_operation == SET:
                new[row.name] = row.value
            elif row.config_operation == DELETE:
                new.pop(row.name, None)
            else:
                raise Refused(Code.INVALID_REQUEST, "configs are set or deleted, not appended to")
        return new

    return _alter(broker, call, IncrementalAlterConfigsResponse, change)


def _alter(broker: Broker, call: Call, answer: Any, change: Any) -> Any:
    rows = []
    for asked in call.request.resources:
        error, reason = Code.NONE, None
        try:
            if asked.resource_type != TOPIC:
                raise Refused(Code.INVALID_REQUEST, "only configs of topics can be changed")
            topic = broker.catalogue.named(asked.resource_name)
            configs = check(change(topic.configs, asked))
            if not call.request.validate_only:
                broker.catalogue.configure(topic, configs)
        except Refused as refused:
            error, reason = refused.code, refused.reason
        rows.append(
            answer.AlterConfigsResourceResponse(
                error_code=error,
                error_message=reason,
                resource_type=asked.resource_type,
                resource_name=asked.resource_name,
            )
        )
    return answer(throttle_time_ms=0, responses=rows)
