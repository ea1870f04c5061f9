"""What is said, in the shape each kind of receiver expects. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any, Literal

from drkit.model.environment import Sink

Status = Literal["investigating", "identified", "monitoring", "resolved"]
Severity = Literal["critical", "error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `reference` names it and makes it recognisable where it arrives; `incident` joins several."""

    subject: str
    text: str
    reference: str
    incident: str
    status: Status = "investigating"
    severity: Severity = "critical"
    drill: bool = False

    @property
    def title(self) -> str:
        """The subject, marked if it is a drill's."""
        return f"[DRILL] {self.subject}" if self.drill else self.subject


def slack(message: Message) -> Mapping[str, Any]:
    """An incoming webhook's body."""
    return {"text": f"*{message.title}*\n{message.text}\n_{message.reference}_"}


def pagerduty(message: Message, routing_key: str) -> Mapping[str, Any]:
    """An Events v2 event: the incident's alert, or its resolution."""
    return {
        "routing_key": routing_key,
        "event_action": "resolve" if message.status == "resolved" else "trigger",
        "dedup_key": message.incident,
        "client": "drkit",
        "payload": {
            "summary": message.title,
            "source": "drkit",
            "severity": message.severity,
            "custom_details": {"text": message.text, "reference": message.reference},
        },
    }


def statuspage(message: Message) -> Mapping[str, Any]:
    """A Statuspage incident, or an update of it."""
    fields: dict[str, Any] = {
        "name": "[DRILL] Service disruption" if message.drill else "Service disruption",
        "status": message.status,
        "body": f"{message.text}",
        "metadata": {"drkit": {"incident": message.incident, "reference": message.reference}},
    }
    return {"incident": fields}


def webhook(message: Message) -> Mapping[str, Any]:
    """Plain JSON for whoever has agreed to take it."""
    return {
        "subject": message.title,
        "text": message.text,
        "status": message.status,
        "incident": message.incident,
        "reference": message.reference,
        "drill": message.drill,
    }


def mail(message: Message, sink: Sink) -> EmailMessage:
    """A mail to the sink's audience."""
    made = EmailMessage()
    made["From"] = "drkit <drkit@localhost>"
    made["To"] = f"{sink.audience}@localhost"
    made["Subject"] = message.title
    made["Message-ID"] = f"<{message.reference}.{sink.name}@drkit>"
    made.set_content(f"{message.text}\n\n{message.reference}\n")
    return made


def usable(sinks: tuple[Sink, ...], audience: str, *, drill: bool) -> list[Sink]:
    """Sinks for an audience. In a drill never one that reaches somebody real; if there is none, the drill's own."""
    if not drill:
        return [sink for sink in sinks if sink.audience == audience]
    meant = [sink for sink in sinks if sink.audience == audience and not sink.real]
    return meant or [sink for sink in sinks if sink.audience == "drill" and not sink.real]
