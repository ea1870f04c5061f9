"""Routing controls of the sandbox: the data plane of a highly available traffic switch, as AWS ARC has it.

Speaks the wire protocol of botocore's `route53-recovery-cluster` at several addresses (one per site), all on one
durable state: any endpoint that still answers can move traffic. Each endpoint can be taken down alone.

Config: `{"endpoints": {SITE: {"address", "port"}}, "admin": {"address", "port"}, "state": FILE, "calls": FILE,
"regions": [REGION], "on": REGION}`. Ready line: `{"endpoints": {SITE: {"address", "port", "url"}}, "admin": {...},
"controls": {NAME: ARN}, "rules": {CELL: ARN}, "panel": ARN, "weights": {CELL: PERCENT}}`.

Admin: `GET /states` → `{NAME: bool}` · `GET /endpoints` · `POST /endpoints/SITE {"mode", "latency_s"?}` ·
`GET /calls?since=N`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drkit.model.values import utc
from drkit.sandbox.parts import announce, die_with_parent, load_config
from drkit.sandbox.parts._gate import Gate, Setting
from drkit.sandbox.parts._lines import Lines
from drkit.sandbox.parts._routing_state import (
    ACCOUNT,
    CELLS,
    PANEL_ARN,
    PANEL_NAME,
    StateFile,
    control_arn,
    initial,
    rule_arn,
)
from drkit.sandbox.parts._web import Reply, Request, json_reply, serve, wait_for_term


class Fault(Exception):
    """An error of the API: its name, message and members; `status` is the HTTP status."""

    def __init__(self, name: str, message: str, *, status: int = 400, **members: Any) -> None:
        super().__init__(message)
        self.body = {"__type": name, "message": message, **members}
        self.status = status


class Cluster:
    """The operations of the data plane on one state."""

    def __init__(self, state: StateFile) -> None:
        self.state = state
        self._names = {control_arn(name): name for name in state.states()}

    def perform(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        """Carry out one operation. Raises Fault."""
        match operation:
            case "GetRoutingControlState":
                return self._shown(self._name(body.get("RoutingControlArn")))
            case "ListRoutingControls":
                return self._list(body)
            case "UpdateRoutingControlState":
                return self._update([body], body)
            case "UpdateRoutingControlStates":
                return self._update(body.get("UpdateRoutingControlStateEntries", []), body)
        raise Fault("ValidationException", f"unknown operation {operation}", reason="unknownOperation")

    def _name(self, arn: Any) -> str:
        if arn not in self._names:
            raise Fault(
                "ResourceNotFoundException",
                f"there is no routing control {arn}",
                status=404,
                resourceId=str(arn),
                resourceType="RoutingControl",
            )
        return self._names[arn]

    def _shown(self, name: str) -> dict[str, Any]:
        state = "On" if self.state.states()[name] else "Off"
        return {"RoutingControlArn": control_arn(name), "RoutingControlName": name, "RoutingControlState": state}

    def _list(self, body: dict[str, Any]) -> dict[str, Any]:
        if body.get("ControlPanelArn", PANEL_ARN) != PANEL_ARN:
            return {"RoutingControls": []}
        panel = {"ControlPanelArn": PANEL_ARN, "ControlPanelName": PANEL_NAME, "Owner": ACCOUNT}
        names = sorted(self.state.states())
        first = int(body.get("NextToken", "0"))
        last = first + int(body.get("MaxResults", len(names)))
        page = {"RoutingControls": [{**self._shown(name), **panel} for name in names[first:last]]}
        return page if last >= len(names) else {**page, "NextToken": str(last)}

    def _update(self, entries: list[dict[str, Any]], body: dict[str, Any]) -> dict[str, Any]:
        wanted: dict[str, bool] = {}
        for entry in entries:
            if entry.get("RoutingControlState") not in ("On", "Off"):
                raise Fault("ValidationException", "RoutingControlState is On or Off", reason="fieldValidationFailed")
            wanted[self._name(entry.get("RoutingControlArn"))] = entry["RoutingControlState"] == "On"
        if broken := self.state.update(wanted, body.get("SafetyRulesToOverride") or []):
            message = f"refused by safety rule {broken[0]}: a cell keeps at least one side on"
            raise Fault("ConflictException", message, status=409, resourceId=broken[0], resourceType="SafetyRule")
        return {}


def endpoint(site: str, gate: Gate, cluster: Cluster, log: Lines) -> Callable[[Request], Reply | None]:
    """One endpoint of the cluster as a function from request to reply."""

    def noted(operation: str, status: int | str) -> None:
        log.add({"at": utc(time.time()), "endpoint": site, "operation": operation, "status": status})

    def handle(request: Request) -> Reply | None:
        operation = request.headers.get("x-amz-target", "unknown").removeprefix("ToggleCustomerAPI.")
        verdict = gate.admit()
        if verdict == "reset":
            noted(operation, "refused")
            return None
        reply = _answer(cluster, operation, request) if verdict != "503" else _unavailable(site)
        if verdict == "lost" or gate.setting().mode == "refuse":
            noted(operation, "lost")
            return None
        noted(operation, reply.status)
        return reply

    return handle


def _answer(cluster: Cluster, operation: str, request: Request) -> Reply:
    try:
        return _amz_json(200, cluster.perform(operation, request.json()))
    except Fault as fault:
        return _amz_json(fault.status, fault.body)


def _unavailable(site: str) -> Reply:
    message = f"the endpoint in {site} is unavailable, try another one"
    return _amz_json(503, {"__type": "EndpointTemporarilyUnavailableException", "message": message})


def _amz_json(status: int, body: dict[str, Any]) -> Reply:
    return Reply(status, json.dumps(body).encode(), "application/x-amz-json-1.0")


def admin(gates: dict[str, Gate], cluster: Cluster, log: Lines) -> Callable[[Request], Reply]:
    """The admin API as a function."""

    def handle(request: Request) -> Reply:
        match (request.method, request.path.strip("/").split("/")):
            case ("GET", ["states"]):
                return json_reply(cluster.state.states())
            case ("GET", ["endpoints"]):
                return json_reply({site: gate.shown() for site, gate in gates.items()})
            case ("POST", ["endpoints", site]) if site in gates:
                gates[site].set(Setting.parse(request.json()))
                return json_reply(gates[site].shown())
            case ("GET", ["calls"]):
                following, calls = log.since(int(request.query.get("since", "0")))
                return json_reply({"next": following, "calls": calls})
        return json_reply({"error": f"nothing at {request.method} {request.path}"}, 404)

    return handle


def _where(address: str, port: int) -> dict[str, Any]:
    return {"address": address, "port": port, "url": f"http://{address}:{port}"}


def main() -> None:
    """Serve until SIGTERM."""
    die_with_parent()
    config = load_config()
    cluster = Cluster(StateFile(Path(config["state"]), initial(config["regions"], config["on"])))
    log = Lines(Path(config["calls"]))
    gates = {site: Gate() for site in config["endpoints"]}
    ready: dict[str, Any] = {}
    for site, where in config["endpoints"].items():
        server = serve(where["address"], int(where.get("port", 0)), endpoint(site, gates[site], cluster, log))
        ready[site] = _where(where["address"], server.server_port)
    where = config["admin"]
    control = serve(where["address"], int(where.get("port", 0)), admin(gates, cluster, log))
    announce(
        endpoints=ready,
        admin=_where(where["address"], control.server_port),
        controls={name: control_arn(name) for name in sorted(cluster.state.states())},
        rules={cell: rule_arn(cell) for cell in CELLS},
        panel=PANEL_ARN,
        weights=dict(CELLS),
    )
    wait_for_term()


if __name__ == "__main__":
    main()
