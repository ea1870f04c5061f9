"""Which calls to AWS a step makes, as the gateway sees them: from the words in its code and AWS's own models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from drkit.providers.aws import READS


@dataclass(frozen=True, slots=True)
class Permission:
    """A call that a step needs to be allowed."""

    service: str
    """As requests are signed for it."""
    pattern: str
    """For its name; of REST calls, for method and path."""
    writes: bool


def permissions(words: Iterable[str]) -> tuple[Permission, ...]:
    """Operations, among these words as boto3 spells them, of the services among them.

    S3 is left out: the state store, and with it the environment's lease, is there too.
    """
    given = frozenset(words)
    return tuple(found for service in sorted((given & _services()) - {"s3"}) for found in _of(service, given))


def _of(service: str, words: frozenset[str]) -> Iterator[Permission]:
    from botocore import xform_name

    model = _session().get_service_model(service)
    by_path = model.metadata["protocol"].startswith("rest")
    for name in model.operation_names:
        if (spelled := xform_name(name)) in words:
            pattern = _path(model.operation_model(name).http) if by_path else name
            yield Permission(model.signing_name, pattern, not spelled.startswith(READS))


def _path(http: dict[str, str]) -> str:
    """`GET /2015-02-01/file-systems*`; what is filled in may be anything."""
    path, _, _ = http["requestUri"].partition("?")
    return f"{http['method']} {re.sub(r'{[^}]*}', '*', path)}*"


@cache
def _session() -> Any:
    import botocore.session

    return botocore.session.get_session()


@cache
def _services() -> frozenset[str]:
    return frozenset(_session().get_available_services())
