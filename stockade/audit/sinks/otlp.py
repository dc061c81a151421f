"""OpenTelemetry's protocol for logs over HTTP, in protobuf. Needs the extra `opentelemetry`.

A record is the event `azure.resource.log`, its body the whole record, its resource the one that it is about. The messages are OpenTelemetry's own
(`opentelemetry-proto`, which the exporter brings); the request is ours, because the exporter's follows redirects and has no end to a slow reply.
Source: OTLP 1.x, OTLP/HTTP; OpenTelemetry's semantic conventions, Azure resource log events.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from stockade.audit.outgoing import Outgoing
from stockade.audit.sinks.sink import ResourceLog, Undelivered
from stockade.settings import Sink

EVENT: Final = "azure.resource.log"
_SEVERITY: Final = {"Informational": 9, "Warning": 13, "Error": 17}
_PROTOBUF: Final = "application/x-protobuf"

log = logging.getLogger(__name__)


class OtlpSink:
    """One collector."""

    def __init__(self, configured: Sink) -> None:
        self._service: Any = _messages("collector.logs.v1.logs_service_pb2")
        self._logs: Any = _messages("logs.v1.logs_pb2")
        self._common: Any = _messages("common.v1.common_pb2")
        self._name = configured.name
        self._outgoing = Outgoing(
            configured.url,
            credential_env=configured.credential_env,
            credential_file=configured.credential_file,
            ca_file=configured.ca_file,
            timeout_s=configured.timeout_s,
        )

    async def deliver(self, batch: Sequence[ResourceLog]) -> None:
        answer = await self._outgoing.post(self._request(batch).SerializeToString(), _PROTOBUF, accept=_PROTOBUF)
        try:
            partial = self._service.ExportLogsServiceResponse.FromString(answer.body).partial_success
        except Exception:  # noqa: BLE001 - protobuf's errors have no common type; the 2xx is what counts
            return
        if partial.rejected_log_records:
            # The protocol forbids to send them again: the receiver has taken the rest, and says that these will never do.
            log.error(
                "a receiver has thrown audit records away",
                extra={
                    "sink": self._name,
                    "records": partial.rejected_log_records,
                    "said": partial.error_message[:200],
                },
            )

    async def close(self) -> None:
        self._outgoing.close()

    def _request(self, batch: Sequence[ResourceLog]) -> Any:
        request, resources = self._service.ExportLogsServiceRequest(), dict[str, Any]()
        for record in batch:
            records = resources.get(record.resource)
            if records is None:
                of_resource = request.resource_logs.add()
                self._set(of_resource.resource.attributes, "service.name", "stockade")
                self._set(of_resource.resource.attributes, "cloud.resource_id", record.resource)
                of_scope = of_resource.scope_logs.add()
                of_scope.scope.name = "stockade.audit"
                records = resources[record.resource] = of_scope.log_records
            one = records.add()
            one.time_unix_nano = int(record.time * 1e9)
            one.observed_time_unix_nano = time.time_ns()
            one.severity_number = _SEVERITY.get(record.level, 9)
            one.severity_text = record.level
            one.event_name = EVENT
            self._set(one.attributes, "azure.service.request.id", record.decision)
            self._set(one.attributes, "stockade.log", record.log)
            self._set(one.attributes, "stockade.index", record.index)
            one.body.CopyFrom(self._value(msgspec.json.decode(record.body)))
        return request

    def _set(self, attributes: Any, key: str, value: Any) -> None:
        attributes.add(key=key, value=self._value(value))

    def _value(self, value: Any) -> Any:
        made = self._common.AnyValue()
        match value:
            case bool():
                made.bool_value = value
            case int():
                made.int_value = value
            case float():
                made.double_value = value
            case str():
                made.string_value = value
            case dict():
                made.kvlist_value.SetInParent()
                for key, member in value.items():
                    self._set(made.kvlist_value.values, key, member)
            case list():
                made.array_value.SetInParent()
                made.array_value.values.extend(self._value(member) for member in value)
        return made


class OtlpSinks:
    """Type `otlp`."""

    name = "otlp"

    def open(self, configured: Sink) -> OtlpSink:
        return OtlpSink(configured)


def _messages(module: str) -> Any:
    try:
        return importlib.import_module(f"opentelemetry.proto.{module}")
    except ImportError as missing:
        message = "OpenTelemetry's messages are not installed: pip install 'stockade[opentelemetry]' installs them"
        raise Undelivered(message) from missing


PLUGIN = OtlpSinks()
