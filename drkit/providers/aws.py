"""AWS through boto3 in worker threads: a client per service and region, at that site's endpoint.

Every call is bounded (connect 2 s, read 5 s, two attempts) and counted by site, service and operation. STS is always
the regional one. What an endpoint does not implement becomes NotSupported, whatever it looks like on the wire. Where a
site's endpoint is on loopback, static dummy credentials are used; everywhere else the usual chain, never a default
region.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Self, TypeVar

import anyio
import anyio.to_thread

from drkit.errors import NotSupported, OutcomeUnknown, ShutOut, StepFailed, Unobservable, Unreachable
from drkit.model import written
from drkit.model.credentials import Life
from drkit.model.environment import Environment
from drkit.providers.credentials import CONNECT_S, READ_S, Clients, Secrets

#: Shows what calls would be signed with.
_WHO = "aws sts get-caller-identity"
READS = ("describe_", "get_", "list_", "head_", "batch_get_", "query", "scan", "lookup_", "decrypt", "receive_")
_UNSUPPORTED = frozenset({"NotImplemented", "UnknownOperationException", "InvalidAction", "UnsupportedOperation"})
#: Too many calls at the time: nothing was done, whatever the status (503 for EC2 and S3).
_THROTTLED = frozenset({
    "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException",
    "TooManyRequestsException", "RequestLimitExceeded", "BandwidthLimitExceeded", "EC2ThrottledException",
    "ProvisionedThroughputExceededException", "PriorRequestNotComplete", "SlowDown",
})  # fmt: skip
#: It is not known who asks: what the call was signed with does not count.
_STRANGER = frozenset({
    "InvalidClientTokenId", "UnrecognizedClientException", "AuthFailure", "InvalidAccessKeyId", "SignatureDoesNotMatch",
    "InvalidSignatureException", "IncompleteSignature", "MissingAuthenticationToken", "InvalidToken",
})  # fmt: skip

T = TypeVar("T")


class AwsError(StepFailed):
    """AWS answered and said no; `aws_code` is its code (`ResourceNotFoundException`).

    `world`: this call did nothing; what went through before it in the same attempt is still there.
    """

    def __init__(self, message: str, *, aws_code: str, status: int) -> None:
        super().__init__(message, world="turned-away" if aws_code in _THROTTLED else written.so_far().world)
        self.aws_code = aws_code
        self.status = status


class Aws:
    """The AWS API as seen from one run."""

    def __init__(self, environment: Environment, secrets: Secrets | None = None) -> None:
        """`secrets`: needed where the environment says where its credentials are written down."""
        self._environment = environment
        self._clients = Clients(environment.aws_credentials, secrets)
        self._threads = anyio.CapacityLimiter(16)
        self.calls: Counter[tuple[str, str, str]] = Counter()

    @classmethod
    def connect(cls, environment: Environment, secrets: Secrets) -> Self:
        """A provider; opens nothing yet."""
        return cls(environment, secrets)

    async def aclose(self) -> None:
        """Close every client's connections."""
        self._clients.close()

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

        `write` is told from the name if not given. AwsError if AWS says no; ShutOut if there are no credentials, or
        they do not count (CredentialsExpired: and there are no new ones); Unreachable if nothing was sent; without an
        answer Unobservable for a read and OutcomeUnknown for a write; NotSupported.
        """
        writes = not operation.startswith(READS) if write is None else write
        self.calls[site, service, operation] += 1
        label = f"{service}:{operation} in {site}"

        def send(client: Any) -> dict[str, Any]:
            answer: dict[str, Any] = getattr(client, operation)(**(params or {}))
            body = answer.get("Body")
            return answer if body is None or not hasattr(body, "read") else {**answer, "Body": body.read()}

        with written.writing(label) if writes else nullcontext():
            return await self._bounded(site, service, send, label, writes)

    async def pages(
        self, site: str, service: str, operation: str, key: str, params: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """All items called `key` over all pages of a listing."""
        self.calls[site, service, operation] += 1

        def send(client: Any) -> list[Any]:
            pages = client.get_paginator(operation).paginate(**(params or {}))
            return [item for page in pages for item in page.get(key, [])]

        return await self._bounded(site, service, send, f"{service}:{operation} in {site}", writes=False)

    async def prepare(self, site: str, service: str) -> None:
        """Make the client, which sends nothing and takes long the first time, before a short deadline runs."""
        endpoint = self._environment.site(site).aws_endpoint
        await anyio.to_thread.run_sync(self._clients.client, site, service, endpoint, limiter=self._threads)

    async def life(self, site: str) -> Life | None:
        """How long the credentials last that calls to `site` are signed with; None: there are none. DrkitError."""

        def look() -> Life | None:
            return self._clients.life(self._environment.site(site).aws_endpoint)

        try:
            return await anyio.to_thread.run_sync(look, abandon_on_cancel=True)
        except _sdk_errors() as error:
            raise translated(error, f"credentials for {site}", False) from error

    async def _bounded(self, site: str, service: str, send: Callable[[Any], T], label: str, writes: bool) -> T:
        endpoint = self._environment.site(site).aws_endpoint

        def ask() -> T:
            return self._clients.ask(send, region=site, service=service, endpoint=endpoint, writes=writes)

        try:
            # boto3's own timeouts end the thread; this one bounds what the caller waits, retries included.
            with anyio.fail_after(2 * (CONNECT_S + READ_S) + 2):
                return await anyio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=self._threads)
        except TimeoutError as slow:
            raise _unanswered(label, "no answer", writes) from slow
        except _sdk_errors() as error:
            raise translated(error, label, writes) from error


def translated(error: Any, label: str, writes: bool) -> Exception:
    """What an error of boto3 means for the caller."""
    from botocore import exceptions as aws
    from botocore.parsers import ResponseParserError

    if isinstance(error, aws.ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code in _UNSUPPORTED or status == 501:
            return NotSupported(f"{label} is not supported by this endpoint.")
        if status >= 500 and code not in _THROTTLED:
            return _unanswered(label, f"it answered {status} {code}", writes)
        message = str(error.response.get("Error", {}).get("Message", "")).rstrip(".")
        if code in _STRANGER:
            return ShutOut(f"{label}: the credentials are not accepted ({code}: {message}).", hint=_WHO)
        return AwsError(f"{label}: {code}: {message}", aws_code=code, status=status)
    if isinstance(error, ResponseParserError):  # an HTML page where XML was due
        return NotSupported(f"{label} is not supported by this endpoint.")
    if isinstance(error, aws.EndpointConnectionError | aws.ConnectTimeoutError | aws.ProxyConnectionError):
        return Unreachable(f"{label}: {_said(error)}.")
    if isinstance(error, aws.HTTPClientError):
        return _unanswered(label, _said(error), writes)
    if isinstance(error, aws.NoCredentialsError | aws.PartialCredentialsError):
        return ShutOut(f"{label}: no usable credentials ({_said(error)}).", hint=_WHO)
    if isinstance(error, aws.CredentialRetrievalError):  # whoever gives them may answer again
        return Unreachable(f"{label}: no credentials could be had ({_said(error)}).")
    # Refused before it was sent: wrong parameters.
    return StepFailed(f"{label}: {_said(error)}", world=written.so_far().world)


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
