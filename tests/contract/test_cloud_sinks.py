"""Sinks: what was acknowledged can be read back, malformed messages are refused, a dead sink is dead alone."""

from __future__ import annotations

import json
import smtplib
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from cloud_parts import ask, part


class Sinks:
    def __init__(self, ready: dict[str, Any], messages: Path) -> None:
        self.ready, self.messages = ready, messages
        self.start = 0

    def new(self, query: str = "") -> list[dict[str, Any]]:
        """Messages of this test."""
        found: list[dict[str, Any]] = self.admin(f"/messages?since={self.start}{query}")["messages"]
        return found

    def post(self, path: str, body: Any, method: str = "POST") -> Any:
        return ask(self.ready["http"]["url"] + path, body, method)

    def get(self, path: str) -> Any:
        return ask(self.ready["http"]["url"] + path)

    def admin(self, path: str, body: Any = None) -> Any:
        return ask(self.ready["admin"]["url"] + path, body)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sinks]:
    folder = tmp_path_factory.mktemp("sinks")
    where = {"address": "127.1.4.25", "port": 0}
    config = {"http": where, "smtp": where, "admin": where, "messages": str(folder / "messages.jsonl")}
    with part("sinks", config, folder) as (_, ready):
        yield Sinks(ready, folder / "messages.jsonl")


@pytest.fixture
def sinks(running: Sinks) -> Iterator[Sinks]:
    running.start = running.admin("/messages")["next"]
    yield running
    running.admin("/kinds/slack", {"mode": "ok"})


def test_every_kind_of_message_is_acknowledged_as_its_service_does_and_recorded(sinks: Sinks) -> None:
    assert sinks.post("/slack/T0/B0/x", {"text": "[DRILL] hello"}) == "ok"
    assert sinks.post("/webhook/regulator", {"any": "thing"}) == {"ok": True}
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "drkit@reliabletech.example", "execs@reliabletech.example", "Störung"
    mail.set_content("We are back.\n")
    with smtplib.SMTP(sinks.ready["smtp"]["address"], sinks.ready["smtp"]["port"], timeout=10) as smtp:
        smtp.send_message(mail)
    found = sinks.new()
    assert [(each["kind"], each["n"] - sinks.start) for each in found] == [("slack", 0), ("webhook", 1), ("mail", 2)]
    assert (found[2]["body"]["subject"], found[2]["body"]["text"]) == ("Störung", "We are back.\n")
    assert [json.loads(line) for line in sinks.messages.read_text().splitlines()[sinks.start :]] == found
    assert [each["kind"] for each in sinks.new("&kind=mail")] == ["mail"]


def test_a_test_page_can_be_read_back_and_acknowledged(sinks: Sinks) -> None:
    payload = {"summary": "[DRILL] test page", "source": "drkit", "severity": "info"}
    event = {"routing_key": "key", "event_action": "trigger", "dedup_key": "run-1", "payload": payload}
    assert sinks.post("/pagerduty/v2/enqueue", event)["dedup_key"] == "run-1"
    assert sinks.post("/pagerduty/v2/enqueue", event)["status"] == "success"
    (page,) = sinks.admin("/pages")
    assert (page["status"], page["payload"], page["events"]) == ("triggered", payload, 2)
    assert sinks.admin("/pages/run-1/acknowledge", {})["status"] == "acknowledged"
    sinks.post("/pagerduty/v2/enqueue", {"routing_key": "key", "event_action": "resolve", "dedup_key": "run-1"})
    assert sinks.admin("/pages")[0]["status"] == "resolved"


def test_incidents_are_made_updated_and_listed_as_statuspage_does(sinks: Sinks) -> None:
    base = "/statuspage/v1/pages/reliabletech/incidents"
    made = sinks.post(base, {"incident": {"name": "Shop is down", "status": "investigating", "body": "We look."}})
    fixed = sinks.post(f"{base}/{made['id']}", {"incident": {"status": "resolved", "body": "Back."}}, "PATCH")
    assert (fixed["status"], [each["body"] for each in fixed["incident_updates"]]) == (
        "resolved",
        ["Back.", "We look."],
    )
    assert [each["id"] for each in sinks.get(base)] == [made["id"]]
    assert sinks.get(base + "/unknown")[0] == 404


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/slack/T0/B0/x", {}, 400),
        ("/pagerduty/v2/enqueue", {"event_action": "trigger"}, 400),
        ("/pagerduty/v2/enqueue", {"routing_key": "k", "event_action": "resolve"}, 400),
        ("/statuspage/v1/pages/p/incidents", {"incident": {"status": "investigating"}}, 422),
        ("/statuspage/v1/pages/p/incidents", {"incident": {"name": "x", "status": "fine"}}, 422),
        ("/nowhere", {}, 404),
    ],
)
def test_what_the_real_service_would_refuse_is_refused_and_not_recorded(
    sinks: Sinks, path: str, body: Any, status: int
) -> None:
    assert sinks.post(path, body)[0] == status
    assert sinks.new() == []


def test_one_sink_can_be_down_alone(sinks: Sinks) -> None:
    sinks.admin("/kinds/slack", {"mode": "refuse"})
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        sinks.post("/slack/x", {"text": "hello"})
    sinks.admin("/kinds/slack", {"mode": "503"})
    assert sinks.post("/slack/x", {"text": "hello"})[0] == 503
    assert sinks.post("/webhook/x", {}) == {"ok": True}
    assert [each["kind"] for each in sinks.new()] == ["webhook"]
