"""HTTP with the address chosen by us: "pin" a name to an address, so that a standby is tested before traffic moves.

The Host header and the TLS server name stay those of the URL; only where we connect changes. Answers are read whole
(they are small); no redirects are followed, because one would leave the pinned address.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit, urlunsplit

import anyio

from drkit.errors import OutcomeUnknown, Unobservable, Unreachable
from drkit.model.environment import Address, Environment
from drkit.model.permit import Permit

if TYPE_CHECKING:
    from httpx2 import AsyncClient

#: Status with which a target refuses what a run may not begin any more (`permitted`).
LATE = 412
READS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. `address` is where we connected, `elapsed_s` from the first byte sent to the last received."""

    status: int
    body: bytes
    address: str
    elapsed_s: float
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """The body as JSON. Unobservable if it is not."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Unobservable(f"{self.address} answered {self.status} with something that is not JSON.") from error


class Http:
    """HTTP clients of one run. Connections are not kept: a kept one would show the past after traffic moves."""

    def __init__(self) -> None:
        self._client: AsyncClient | None = None

    @classmethod
    def connect(cls, environment: Environment, secrets: object) -> Self:
        """A provider; opens nothing yet."""
        return cls()

    async def aclose(self) -> None:
        """Close the client."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        pin: Address | None = None,
        json_body: object | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 2.0,
    ) -> Answer:
        """One request. Any status is an answer.

        Unreachable if no connection was made; without an answer, Unobservable for a read and OutcomeUnknown for a
        write.
        """
        import httpx2

        target, name = pinned(url, pin)
        started = time.monotonic()
        try:
            with anyio.fail_after(timeout_s):
                response = await self._http().request(
                    method,
                    target,
                    json=json_body,
                    headers={**(headers or {}), "Host": name, "Connection": "close"},
                    extensions={"sni_hostname": name.rsplit(":", 1)[0]} if pin else {},
                    timeout=timeout_s,
                )
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise Unreachable(f"{_where(url, pin)} cannot be connected to: {_said(error)}.") from error
        except (httpx2.HTTPError, TimeoutError) as error:
            message = f"{method} {_where(url, pin)}: {_said(error)} (limit {timeout_s:g} s)"
            if method in READS:
                raise Unobservable(f"{message}.") from error
            raise OutcomeUnknown(f"{message}; the request may have been carried out.") from error
        elapsed_s = time.monotonic() - started
        return Answer(response.status_code, response.content, _where(url, pin), elapsed_s, dict(response.headers))

    def _http(self) -> AsyncClient:
        import httpx2

        if self._client is None:
            self._client = httpx2.AsyncClient(
                follow_redirects=False,
                trust_env=False,
                limits=httpx2.Limits(max_connections=100, max_keepalive_connections=0),
            )
        return self._client


class OverHttp:
    """Base of providers that ask something which the environment names, over HTTP."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._http = Http()

    @classmethod
    def connect(cls, environment: Environment, secrets: object) -> Self:
        """A client; opens nothing yet."""
        return cls(environment)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._http.aclose()


def permitted(permit: Permit, answer: Answer) -> dict[str, Any]:
    """What a change carries to a target that has just said what time it is there (`clock`), and refuses late ones.

    Refused if our lease is over; Unreachable (nothing was sent) if the answer has no clock.
    """
    try:
        clock = answer.json()["clock"]
        boot, at_s = str(clock["boot"]), float(clock["at_s"])
    except (KeyError, TypeError, ValueError) as error:
        raise Unreachable(f"{answer.address} does not say what time it is there; nothing was sent.") from error
    return {"token": permit.token, "boot": boot, "until_s": permit.until(at_s)}


def pinned(url: str, pin: Address | None) -> tuple[str, str]:
    """The URL to connect to, and the Host header: the URL's own name and port, wherever we connect."""
    parts = urlsplit(url)
    if pin is None:
        return url, parts.netloc
    host = f"[{pin.host}]" if ":" in pin.host else pin.host
    return urlunsplit(parts._replace(netloc=f"{host}:{pin.port}")), parts.netloc


def _where(url: str, pin: Address | None) -> str:
    return f"{url} at {pin}" if pin else url


def _said(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).rstrip(".")
