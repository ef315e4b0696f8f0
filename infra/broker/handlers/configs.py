"""DescribeConfigs, AlterConfigs, IncrementalAlterConfigs. The broker's configs are read only."""

from __future__ import annotations

from typing import Any

from kafka.protocol.admin import (
    AlterConfigsResponse,
    DescribeConfigsResponse,
    IncrementalAlterConfigsResponse,
)

from infra.broker.codes import Code, Refused
from infra.broker.configs import BROKER_CONFIGS, TOPIC_CONFIGS, checked_configs
from infra.broker.handlers.partitions import once
from infra.broker.node import NODE_ID, Broker
from infra.broker.wire import Call

TOPIC_RESOURCE, BROKER_RESOURCE = 2, 4  # resource types
SET, DELETE = 0, 1  # operations of an incremental change
FROM_TOPIC, FROM_DEFAULT = 1, 5
RESULT = DescribeConfigsResponse.DescribeConfigsResult
VALUE = RESULT.DescribeConfigsResourceResult


async def describe(broker: Broker, call: Call) -> Any:
    """Every config of the requested resources, with its value and source."""
    results = []
    for resource in once(call.request.resources, lambda it: (it.resource_type, it.resource_name)):
        error, reason, values = Code.NONE, None, []
        try:
            values = _values(broker, resource)
        except Refused as refused:
            error, reason = refused.code, refused.reason
        results.append(
            RESULT(
                error_code=error,
                error_message=reason,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
                configs=values,
            )
        )
    return DescribeConfigsResponse(throttle_time_ms=0, results=results)


def _values(broker: Broker, resource: Any) -> list[Any]:
    keys = resource.configuration_keys
    if resource.resource_type == TOPIC_RESOURCE:
        own = broker.catalogue.topic_by_name(resource.resource_name).configs
        shown = {
            name: (own.get(name, config.default), name in own, config.kind)
            for name, config in TOPIC_CONFIGS.items()
        }
    elif resource.resource_type == BROKER_RESOURCE and resource.resource_name in ("", str(NODE_ID)):
        shown = {name: (value, False, 0) for name, value in BROKER_CONFIGS.items()}
        shown["num.partitions"] = (str(broker.default_partitions), False, 3)
        shown["auto.create.topics.enable"] = (str(broker.auto_create).lower(), False, 1)
    else:
        raise Refused(Code.INVALID_REQUEST, "only topics and this broker have configs")
    return [
        VALUE(
            name=name,
            value=value,
            read_only=resource.resource_type == BROKER_RESOURCE,
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

    def change(_: dict[str, str], resource: Any) -> dict[str, str | None]:
        return {row.name: row.value for row in resource.configs}

    return _alter(broker, call, AlterConfigsResponse, change)


async def alter_some(broker: Broker, call: Call) -> Any:
    """Sets or deletes single configs of a topic."""

    def change(own: dict[str, str], resource: Any) -> dict[str, str | None]:
        new: dict[str, str | None] = dict(own)
        for row in resource.configs:
            if row.config_operation == SET:
                new[row.name] = row.value
            elif row.config_operation == DELETE:
                new.pop(row.name, None)
            else:
                raise Refused(Code.INVALID_REQUEST, "configs are set or deleted, not appended to")
        return new

    return _alter(broker, call, IncrementalAlterConfigsResponse, change)


def _alter(broker: Broker, call: Call, response: Any, change: Any) -> Any:
    rows = []
    for resource in call.request.resources:
        error, reason = Code.NONE, None
        try:
            if resource.resource_type != TOPIC_RESOURCE:
                raise Refused(Code.INVALID_REQUEST, "only configs of topics can be changed")
            topic = broker.catalogue.topic_by_name(resource.resource_name)
            configs = checked_configs(change(topic.configs, resource))
            if not call.request.validate_only:
                broker.catalogue.configure(topic, configs)
        except Refused as refused:
            error, reason = refused.code, refused.reason
        rows.append(
            response.AlterConfigsResourceResponse(
                error_code=error,
                error_message=reason,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
        )
    return response(throttle_time_ms=0, responses=rows)
