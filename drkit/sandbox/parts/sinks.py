"""Where the sandbox's messages end: a recorder that answers as Slack, PagerDuty, Statuspage, webhook and mail server.

Nothing leaves the machine. Every message is appended to a JSON-lines file before it is answered, so that what was
acknowledged can be read back. Each kind can be taken down alone: a dead Slack must delay nothing.

Shapes: Slack incoming webhook (`POST /slack/...` → `ok`; JSON with `text` or `blocks`) · PagerDuty Events v2 (`POST
/pagerduty/v2/enqueue` → 202 `{status, message, dedup_key}`) · Statuspage v1 (`POST|GET
/statuspage/v1/pages/PAGE/incidents`, `GET|PATCH|PUT .../incidents/ID`) · anything else (`POST /webhook/...`,
which keeps a message with the same `Idempotency-Key` once) · SMTP.

Config: `{"http": {"address", "port"}, "smtp": {...}, "admin": {...}, "messages": FILE}`. Ready line: the three
addresses. Admin: `GET /messages?since=N&kind=K` → `{"next", "messages": [{"n", "at", "kind", "path", "body"}]}` ·
`GET /pages` → alerts by `dedup_key` · `POST /pages/KEY/acknowledge` · `POST /kinds/KIND {"mode", "latency_s"?}`.
A page sent as a test is read back from `/pages`: `{"dedup_key", "status": triggered|acknowledged|resolved, ...}`.
"""

from __future__ import annotations

import email
import json
import secrets
import threading
import time
from collections.abc import Callable
from email.policy import default as email_policy
from pathlib import Path
from typing import Any

from drkit.model.values import utc
from drkit.sandbox.parts import announce, die_with_parent, load_config
from drkit.sandbox.parts._gate import Gate, Setting
from drkit.sandbox.parts._lines import Lines
from drkit.sandbox.parts._web import Reply, Request, json_reply, serve, wait_for_term

KINDS = ("slack", "pagerduty", "statuspage", "webhook", "mail")
INCIDENT_STATES = ("investigating", "identified", "monitoring", "resolved", "scheduled", "in_progress", "completed")


class Pager:
    """PagerDuty's Events v2: events become alerts by their deduplication key."""

    _STATUS = {"trigger": "triggered", "acknowledge": "acknowledged", "resolve": "resolved"}

    def __init__(self) -> None:
        self.alerts: dict[str, dict[str, Any]] = {}

    def take(self, event: Any) -> Reply:
        """Accept one event, or say what is wrong with it, as Events v2 does."""
        problems = self._problems(event)
        if problems:
            return json_reply(
                {"status": "invalid event", "message": "Event object is invalid", "errors": problems}, 400
            )
        key = event.get("dedup_key") or secrets.token_hex(16)
        known = self.alerts.setdefault(
            key, {"dedup_key": key, "first_at": utc(time.time()), "payload": None, "events": 0}
        )
        known["status"] = self._STATUS[event["event_action"]]
        known["payload"] = event.get("payload") or known["payload"]
        known["routing_key"] = event["routing_key"]
        known["events"] += 1
        return json_reply({"status": "success", "message": "Event processed", "dedup_key": key}, 202)

    def _problems(self, event: Any) -> list[str]:
        if not isinstance(event, dict):
            return ["body must be a JSON object"]
        problems = [] if event.get("routing_key") else ["'routing_key' is missing or blank"]
        action = event.get("event_action")
        if action not in self._STATUS:
            problems.append("'event_action' is trigger, acknowledge or resolve")
        if action == "trigger":
            payload = event.get("payload") or {}
            wanted = [name for name in ("summary", "source", "severity") if not payload.get(name)]
            problems += [f"'payload.{name}' is missing or blank" for name in wanted]
        elif not event.get("dedup_key"):
            problems.append("'dedup_key' is missing or blank")
        return problems


class StatusPage:
    """Statuspage's incidents, with every update kept."""

    def __init__(self) -> None:
        self._incidents: dict[str, list[dict[str, Any]]] = {}

    def take(self, request: Request, page: str, rest: list[str]) -> Reply:
        """Create, list, read or update incidents of a page."""
        incidents = self._incidents.setdefault(page, [])
        if not rest and request.method == "GET":
            return json_reply(incidents[::-1])
        if not rest and request.method == "POST":
            return self._write(
                page, {"id": f"inc{len(incidents) + 1:04}", "page_id": page, "incident_updates": []}, request
            )
        found = next((each for each in incidents if rest and each["id"] == rest[0]), None)
        if found is None:
            return json_reply({"error": "not found"}, 404)
        return json_reply(found) if request.method == "GET" else self._write(page, found, request)

    def _write(self, page: str, incident: dict[str, Any], request: Request) -> Reply:
        fields = request.json().get("incident")
        if not isinstance(fields, dict) or not (fields.get("name") or incident.get("name")):
            return json_reply({"error": ["Name can't be blank"]}, 422)
        if fields.get("status", "investigating") not in INCIDENT_STATES:
            return json_reply({"error": ["Status is not included in the list"]}, 422)
        now = utc(time.time())
        creating = "name" not in incident
        kept = {name: fields[name] for name in ("name", "status", "impact_override", "metadata") if name in fields}
        incident.update({"status": "investigating", **incident, **kept, "updated_at": now})
        incident.setdefault("created_at", now)
        incident["incident_updates"].insert(
            0, {"status": incident["status"], "body": fields.get("body", ""), "at": now}
        )
        if creating:
            self._incidents[page].append(incident)
        return json_reply(incident, 201 if creating else 200)


def sinks(recorder: Lines, pager: Pager, page: StatusPage, gates: dict[str, Gate]) -> Callable[[Request], Reply | None]:
    """The HTTP sinks as a function."""
    keys: set[tuple[str, str]] = set()

    def accept(request: Request, words: list[str]) -> Reply:
        match words:
            case ["slack", *_]:
                body = request.json()
                if not isinstance(body, dict) or not (body.get("text") or body.get("blocks")):
                    return Reply(400, b"no_text", "text/plain")
                return Reply(200, b"ok", "text/plain")
            case ["pagerduty", "v2", "enqueue"]:
                return pager.take(request.json())
            case ["statuspage", "v1", "pages", name, "incidents", *rest]:
                return page.take(request, name, rest)
            case ["webhook", *_]:
                return json_reply({"ok": True})
        return json_reply({"error": f"no sink at {request.path}"}, 404)

    def handle(request: Request) -> Reply | None:
        words = request.path.strip("/").split("/")
        gate = gates.get(words[0], gates["webhook"])
        verdict = gate.admit()
        if verdict == "reset":
            return None
        if verdict == "503":
            return json_reply({"error": "unavailable"}, 503)
        reply = accept(request, words)
        key = (request.path, request.headers.get("idempotency-key", ""))
        again = words[0] == "webhook" and bool(key[1]) and key in keys
        if request.method != "GET" and reply.status < 300 and not again:
            record(recorder, words[0], request.path, _readable(request.body))
            keys.add(key)
        return None if verdict == "lost" else reply

    return handle


def record(recorder: Lines, kind: str, path: str, body: Any) -> None:
    """Write one message down."""
    recorder.add({"at": utc(time.time()), "kind": kind, "path": path, "body": body})


def _readable(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


class MailSink:
    """What aiosmtpd calls for each mail."""

    def __init__(self, recorder: Lines, gate: Gate) -> None:
        self._recorder = recorder
        self._gate = gate

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Record one mail; its SMTP answer."""
        if self._gate.setting().mode != "ok":
            return "451 try again later"
        message = email.message_from_bytes(envelope.content, policy=email_policy)
        text = message.get_body(("plain", "html"))
        body = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "subject": message["subject"],
            "text": text.get_content().replace("\r\n", "\n") if text else "",
        }
        record(self._recorder, "mail", "smtp", body)
        return "250 recorded"


def admin(recorder: Lines, pager: Pager, gates: dict[str, Gate]) -> Callable[[Request], Reply]:
    """The admin API as a function."""

    def handle(request: Request) -> Reply:
        match (request.method, request.path.strip("/").split("/")):
            case ("GET", ["messages"]):
                following, found = recorder.since(int(request.query.get("since", "0")))
                kind = request.query.get("kind")
                found = [message for message in found if kind in (None, message["kind"])]
                return json_reply({"next": following, "messages": found})
            case ("GET", ["pages"]):
                return json_reply(list(pager.alerts.values()))
            case ("POST", ["pages", key, "acknowledge"]) if key in pager.alerts:
                pager.alerts[key]["status"] = "acknowledged"
                return json_reply(pager.alerts[key])
            case ("POST", ["kinds", kind]) if kind in gates:
                gates[kind].set(Setting.parse(request.json()))
                return json_reply(gates[kind].shown())
        return json_reply({"error": f"nothing at {request.method} {request.path}"}, 404)

    return handle


def _start_smtp(sink: MailSink, address: str, port: int) -> int:
    """Accept mail in a thread of its own; the port. Raises OSError."""
    import asyncio

    from aiosmtpd.smtp import SMTP

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(
        loop.create_server(lambda: SMTP(sink, hostname="sandbox", enable_SMTPUTF8=True, loop=loop), address, port)
    )
    threading.Thread(target=loop.run_forever, daemon=True, name="smtp").start()
    return int(server.sockets[0].getsockname()[1])


def main() -> None:
    """Serve until SIGTERM."""
    die_with_parent()
    config = load_config()
    gates = {kind: Gate() for kind in KINDS}
    recorder, pager = Lines(Path(config["messages"])), Pager()
    handlers = {"http": sinks(recorder, pager, StatusPage(), gates), "admin": admin(recorder, pager, gates)}
    ready: dict[str, Any] = {}
    for role, handler in handlers.items():
        where = config[role]
        port = serve(where["address"], int(where.get("port", 0)), handler).server_port
        ready[role] = {"address": where["address"], "port": port, "url": f"http://{where['address']}:{port}"}
    where = config["smtp"]
    port = _start_smtp(MailSink(recorder, gates["mail"]), where["address"], int(where.get("port", 0)))
    ready["smtp"] = {"address": where["address"], "port": port, "url": f"smtp://{where['address']}:{port}"}
    announce(**ready)
    wait_for_term()


if __name__ == "__main__":
    main()
