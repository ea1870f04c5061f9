"""Hand a message to a sink, and look whether it arrived. Bounded by seconds: a dead receiver delays nobody for long."""

from __future__ import annotations

import smtplib
from email.message import EmailMessage
from typing import Any, Self
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from drkit.errors import DrkitError, OutcomeUnknown, StepFailed, Unreachable
from drkit.model.environment import Environment, Sink
from drkit.notify.wording import Message, mail, pagerduty, slack, statuspage, webhook
from drkit.providers.http import Answer, Http

TIMEOUT_S = 2.0
KEY = "Idempotency-Key"
"""Header by which a receiver can tell that it has a message already."""


class Delivery:
    """The sinks of one environment."""

    def __init__(self) -> None:
        self._http = Http()
        self._accepted: set[tuple[str, str]] = set()

    @classmethod
    def connect(cls, environment: Environment, secrets: object) -> Self:
        """A provider; opens nothing yet."""
        return cls()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    async def send(self, sink: Sink, message: Message) -> None:
        """Hand it over. Unreachable if nobody is there, StepFailed if not taken, OutcomeUnknown without answer."""
        if sink.kind == "mail":
            await self._mail(sink, mail(message, sink))
        elif sink.kind == "statuspage":
            await self._status(sink, message)
        else:
            body = {
                "slack": lambda: slack(message),
                "pagerduty": lambda: pagerduty(message, sink.name),
                "webhook": lambda: webhook(message),
            }[sink.kind]()
            url = f"{sink.url}/v2/enqueue" if sink.kind == "pagerduty" else sink.url
            key = {KEY: message.reference}
            _taken(sink, await self._http.request("POST", url, json_body=body, headers=key, timeout_s=TIMEOUT_S))
        self._accepted.add((sink.name, message.reference))

    async def arrived(self, sink: Sink, reference: str) -> bool | None:
        """Whether it arrived: as listed where it arrives, else as the sink itself said to us; None: nobody can say."""
        if sink.receipts is not None:
            answer = await self._http.request("GET", sink.receipts, timeout_s=TIMEOUT_S)
            kind = "webhook" if sink.kind == "webhook" else sink.kind
            listed = [each for each in answer.json()["messages"] if each["kind"] == kind and _is_at(each, sink)]
            return any(reference in str(each["body"]) for each in listed)
        return True if (sink.name, reference) in self._accepted else None

    async def _status(self, sink: Sink, message: Message) -> None:
        """Open an incident, or update the one that this run has opened."""
        url = f"{sink.url}/incidents"
        open_ones = await self._http.request("GET", url, timeout_s=TIMEOUT_S)
        ours = [each["id"] for each in open_ones.json() if _incident(each) == message.incident]
        method, where = ("PATCH", f"{url}/{ours[0]}") if ours else ("POST", url)
        _taken(sink, await self._http.request(method, where, json_body=statuspage(message), timeout_s=TIMEOUT_S))

    async def _mail(self, sink: Sink, made: EmailMessage) -> None:
        where = urlsplit(sink.url)
        host, port = where.hostname or "localhost", where.port or 25

        def hand_over() -> None:
            with smtplib.SMTP(host, port, timeout=TIMEOUT_S) as server:
                server.send_message(made)

        try:
            with anyio.fail_after(3 * TIMEOUT_S):
                await anyio.to_thread.run_sync(hand_over, abandon_on_cancel=True)
        except ConnectionRefusedError as error:
            raise Unreachable(f"{sink.name}: nobody takes mail at {host}:{port}.") from error
        except smtplib.SMTPResponseException as error:
            raise StepFailed(f"{sink.name} did not take the mail: {error.smtp_code}.", world="untouched") from error
        except (OSError, smtplib.SMTPException, TimeoutError) as error:
            raise OutcomeUnknown(f"{sink.name}: {error or type(error).__name__}") from error


def _taken(sink: Sink, answer: Answer) -> None:
    if not 200 <= answer.status < 300:
        raise StepFailed(f"{sink.name} did not take the message: {answer.status}.", world="untouched")


def _is_at(listed: dict[str, Any], sink: Sink) -> bool:
    """Webhooks of several receivers may be listed together; their paths tell them apart."""
    return sink.kind != "webhook" or listed["path"] == urlsplit(sink.url).path


def _incident(found: dict[str, Any]) -> str | None:
    metadata = found.get("metadata") or {}
    incident: str | None = (metadata.get("drkit") or {}).get("incident")
    return incident


async def tell_all(delivery: Delivery, sinks: list[Sink], message: Message) -> dict[str, str]:
    """Send to all at once; why it failed, by sink."""
    failures: dict[str, str] = {}

    async def tell(sink: Sink) -> None:
        try:
            if await delivery.arrived(sink, message.reference):
                return  # an earlier attempt got through here
            await delivery.send(sink, message)
        except DrkitError as error:
            failures[sink.name] = error.message

    async with anyio.create_task_group() as group:
        for sink in sinks:
            group.start_soon(tell, sink)
    return failures
