"""Answers of AWS as its documentation shows them, where moto has none; both sides are held against botocore's model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cache
from typing import Any

import botocore.session
from botocore import xform_name
from botocore.validate import ParamValidator

from drkit.model.environment import Environment
from drkit.providers.aws import Aws

Answers = Mapping[tuple[str, str], Callable[[dict[str, Any]], dict[str, Any]]]
_SESSION = botocore.session.get_session()


@cache
def operations(service: str) -> dict[str, Any]:
    """Models of a service's operations, by boto3's names for them."""
    model = _SESSION.get_service_model(service)
    return {xform_name(name): model.operation_model(name) for name in model.operation_names}


def checked(service: str, operation: str, params: Mapping[str, Any]) -> None:
    """Fails if AWS would not take this request for its shape alone."""
    shape = operations(service)[operation].input_shape
    report = ParamValidator().validate(dict(params), shape)
    assert not report.has_errors(), report.generate_report()


class Recorded(Aws):
    """The AWS API, of which some operations answer what was recorded; `sent`: what they were asked."""

    def __init__(self, environment: Environment, answers: Answers) -> None:
        super().__init__(environment)
        self._answers = answers
        self.sent: list[tuple[str, dict[str, Any]]] = []

    async def call(
        self, site: str, service: str, operation: str, params: Mapping[str, Any] | None = None, *,
        write: bool | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        if (service, operation) not in self._answers:
            return await super().call(site, service, operation, params, write=write)
        checked(service, operation, params or {})
        self.sent.append((operation, dict(params or {})))
        answer = self._answers[service, operation](dict(params or {}))
        shape = operations(service)[operation].output_shape
        if shape is not None:
            report = ParamValidator().validate(answer, shape)
            assert not report.has_errors() and answer.keys() <= shape.members.keys(), report.generate_report()
        date = format_datetime(datetime.now(UTC), usegmt=True)
        return {**answer, "ResponseMetadata": {"HTTPHeaders": {"date": date}}}

    async def pages(
        self, site: str, service: str, operation: str, key: str, params: Mapping[str, Any] | None = None
    ) -> list[Any]:
        if (service, operation) not in self._answers:
            return await super().pages(site, service, operation, key, params)
        return list((await self.call(site, service, operation, params)).get(key, []))
