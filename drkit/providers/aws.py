"""AWS through boto3 in worker threads: a client per service and region, built under a lock, at that site's endpoint.

Every call is bounded (connect 2 s, read 5 s, two attempts) and counted by site, service and operation. STS is always
the regional one. What an endpoint does not implement becomes NotSupported, whatever it looks like on the wire. Where a
site's endpoint is on loopback, static dummy credentials are used; everywhere else the usual chain, never a default
region.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

import anyio
import anyio.to_thread

from drkit.errors import NotSupported, OutcomeUnknown, StepFailed, Unobservable, Unreachable
from drkit.model.environment import Environment, Site
from drkit.model.paper import on_loopback

APP_ID = "drkit"
READS = ("describe_", "get_", "list_", "head_", "batch_get_", "query", "scan", "lookup_", "decrypt", "receive_")
_CONNECT_S, _READ_S = 2.0, 5.0
_UNSUPPORTED = frozenset({"NotImplemented", "UnknownOperationException", "InvalidAction", "UnsupportedOperation"})


class AwsError(StepFailed):
    """AWS answered and said no; `aws_code` is its code (`ResourceNotFoundException`)."""

    def __init__(self, message: str, *, aws_code: str, status: int) -> None:
        super().__init__(message, world="untouched")
        self.aws_code = aws_code
        self.status = status


class Aws:
    """The AWS API as seen from one run."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._clients: dict[tuple[str, str], Any] = {}
        self._session: Any = None
        self._building = threading.Lock()
        self._threads = anyio.CapacityLimiter(16)
        self.calls: Counter[tuple[str, str, str]] = Counter()

    @classmethod
    def connect(cls, environment: Environment, secrets: object) -> Self:
        """A provider; opens nothing yet."""
        return cls(environment)

    async def aclose(self) -> None:
        """Close every client's connections."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    async def call(
        self,
        site: str,
        service: str,
        operation: str,
        params: Mapping[str, Any] | None = None,
        *,
        write: bool | None = None,
    ) -> dict[str, Any]:
        """One call (`operation` as boto3 spells it, `describe_vpcs`); its answer.

        `write` is told from the name if not given. AwsError if AWS says no, Unreachable if nothing was sent; without
        an answer Unobservable for a read and OutcomeUnknown for a write; NotSupported.
        """
        writes = not operation.startswith(READS) if write is None else write
        self.calls[site, service, operation] += 1
        label = f"{service}:{operation} in {site}"

        def send() -> dict[str, Any]:
            client = self._client(site, service)
            answer: dict[str, Any] = getattr(client, operation)(**(params or {}))
            body = answer.get("Body")
            return answer if body is None or not hasattr(body, "read") else {**answer, "Body": body.read()}

        answer: dict[str, Any] = await self._bounded(send, label, writes)
        return answer

    async def pages(
        self, site: str, service: str, operation: str, key: str, params: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """All items called `key` over all pages of a listing."""
        self.calls[site, service, operation] += 1

        def send() -> list[Any]:
            pages = self._client(site, service).get_paginator(operation).paginate(**(params or {}))
            return [item for page in pages for item in page.get(key, [])]

        found: list[Any] = await self._bounded(send, f"{service}:{operation} in {site}", writes=False)
        return found

    async def prepare(self, site: str, service: str) -> None:
        """Make the client, which sends nothing and takes long the first time, before a short deadline runs."""
        await anyio.to_thread.run_sync(self._client, site, service, limiter=self._threads)

    async def _bounded(self, send: Any, label: str, writes: bool) -> Any:
        try:
            # boto3's own timeouts end the thread; this one bounds what the caller waits, retries included.
            with anyio.fail_after(2 * (_CONNECT_S + _READ_S) + 2):
                return await anyio.to_thread.run_sync(send, abandon_on_cancel=True, limiter=self._threads)
        except TimeoutError as slow:
            raise _unanswered(label, "no answer", writes) from slow
        except _sdk_errors() as error:
            raise translated(error, label, writes) from error

    def _client(self, site: str, service: str) -> Any:
        with self._building:  # sessions are not thread-safe, clients are
            if (site, service) not in self._clients:
                self._clients[site, service] = self._build(self._environment.site(site), service)
            return self._clients[site, service]

    def _build(self, site: Site, service: str) -> Any:
        self._session = self._session or build_session()
        return build_client(self._session, site.name, service, site.aws_endpoint)


def build_session() -> Any:
    """A boto3 session that asks the regional STS: the global one is in the region that may be down."""
    import boto3
    import botocore.session

    core = botocore.session.Session()
    core.set_config_variable("sts_regional_endpoints", "regional")
    return boto3.session.Session(botocore_session=core)


def build_client(session: Any, region: str, service: str, endpoint: str | None, *, attempts: int = 2) -> Any:
    """A boto3 client with drkit's bounds; dummy credentials only for an endpoint on loopback."""
    from botocore.config import Config

    settings: dict[str, Any] = {
        "connect_timeout": _CONNECT_S,
        "read_timeout": _READ_S,
        "retries": {"total_max_attempts": attempts, "mode": "standard"},
        "user_agent_appid": APP_ID,
    }
    if endpoint:
        settings["s3"] = {"addressing_style": "path"}
    dummy = {"aws_access_key_id": "drkit", "aws_secret_access_key": "drkit"} if on_loopback(endpoint) else {}
    return session.client(service, region_name=region, endpoint_url=endpoint, config=Config(**settings), **dummy)


def translated(error: Any, label: str, writes: bool) -> Exception:
    """What an error of boto3 means for the caller."""
    from botocore import exceptions as aws
    from botocore.parsers import ResponseParserError

    if isinstance(error, aws.ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code in _UNSUPPORTED or status == 501:
            return NotSupported(f"{label} is not supported by this endpoint.")
        if status >= 500:
            return _unanswered(label, f"it answered {status} {code}", writes)
        message = str(error.response.get("Error", {}).get("Message", "")).rstrip(".")
        return AwsError(f"{label}: {code}: {message}", aws_code=code, status=status)
    if isinstance(error, ResponseParserError):  # an HTML page where XML was due
        return NotSupported(f"{label} is not supported by this endpoint.")
    if isinstance(error, aws.EndpointConnectionError | aws.ConnectTimeoutError | aws.ProxyConnectionError):
        return Unreachable(f"{label}: {_said(error)}.")
    if isinstance(error, aws.HTTPClientError):
        return _unanswered(label, _said(error), writes)
    if isinstance(error, aws.NoCredentialsError | aws.PartialCredentialsError | aws.CredentialRetrievalError):
        return Unreachable(f"{label}: no usable credentials ({_said(error)}).")
    return StepFailed(f"{label}: {_said(error)}", world="untouched")  # refused before it was sent: wrong parameters


def _unanswered(label: str, why: str, writes: bool) -> Exception:
    if writes:
        return OutcomeUnknown(f"{label}: {why}; the request may have been carried out.")
    return Unobservable(f"{label}: {why}.")


def _sdk_errors() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return (ClientError, BotoCoreError, ResponseParserError)


def _said(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
