"""The AWS API of the sandbox: moto in one process, behind one gateway per region that can be taken down.

Clients talk to a gateway (`http://127.1.1.x:port`) as they would to AWS. What a gateway adds to moto:

- It can refuse (connection reset), hang, answer 503, lose answers or be slow, as a whole or for one service, without
  touching the other region. With us-east-1 down the *write* side of the global services (Route 53, IAM, making
  buckets) is down everywhere, while their reads are answered elsewhere.
- A region is a region: a request signed for another one, or for a bucket that lives in another one, is turned away as
  AWS does it; moto itself would answer.
- What moto does not implement comes as a clean AWS error `NotImplemented` (501), not as a page of HTML.
- It can throttle or deny calls of a service, let them wait, or answer reads with what was so a while ago, for as long
  as the trouble's own lease says (`_trouble`).
- One-shot schedules of EventBridge Scheduler that call an API are really carried out, and survive whoever made them.
- Every request is written down, but for the successful polling of the sandbox's own parts. So are the refused ones: a
  refused connection is accepted, its request read, and then reset. botocore fails at once (`ConnectionClosedError`),
  and the count of what was tried is honest.

Config: `{"regions": {REGION: {"address", "port"}}, "admin": {"address", "port"}, "calls": FILE, "warm"?: [SERVICE]}`.
Ready line: `{"regions": {REGION: {"address", "port", "url"}}, "admin": {"address", "port", "url"}}`.

Admin: `GET /regions` · `POST /regions/REGION {"mode": ok|refuse|hang|503|lost, "service"?: NAME, "latency_s"?: N}`
· `GET /troubles` · `POST /regions/REGION/troubles {...}` · `POST /troubles/KEY/end` · `GET /healthz`
· `GET /calls?since=N` → `{"next": N, "calls": [...]}`. A call is `{"n", "at", "gateway", "region", "service",
"operation", "global_write", "caller", "status"}`; `status` is the HTTP status, `refused` (never carried out) or `lost`
(carried out, never answered).
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from drkit.model.values import utc
from drkit.sandbox.parts import _schedules, announce, die_with_parent, load_config
from drkit.sandbox.parts._calls import GLOBAL_HOME, GLOBAL_SERVICES, Call
from drkit.sandbox.parts._gate import Gate, Setting
from drkit.sandbox.parts._gateway import gateway_server
from drkit.sandbox.parts._lines import Lines
from drkit.sandbox.parts._moto import ACCOUNT, WARM, Moto, bucket_region, error_reply, make_moto, warm_up
from drkit.sandbox.parts._past import Past, Question, same
from drkit.sandbox.parts._trouble import Met, Trouble, Troubles
from drkit.sandbox.parts._web import Reply, Request, json_reply, serve, wait_for_term


class Cloud:
    """The gates of all regions before one moto."""

    def __init__(self, regions: Iterable[str], moto: Moto, log: Lines) -> None:
        self.gates = {region: Gate() for region in regions}
        self.troubles = Troubles()
        self._past = Past()
        self._moto = moto
        self._log = log

    def answer(self, gateway: str, call: Call, environ: dict[str, Any], connected: Callable[[], bool]) -> Reply | None:
        """The answer to one request at the gateway of a region; None: reset the connection."""
        reply, status = self._decide(gateway, call, environ, connected)
        if not _is_own_polling(call, status):
            self._log.add({"at": utc(time.time()), "gateway": gateway, **call.shown(), "status": status})
        return reply

    def _decide(
        self, gateway: str, call: Call, environ: dict[str, Any], connected: Callable[[], bool]
    ) -> tuple[Reply | None, int | str]:
        lose, needed = False, self._needed(gateway, call)
        for region in needed:
            verdict = self.gates[region].admit(call.service)
            if verdict == "reset":
                return None, "refused"
            if verdict == "503":
                return _finished(error_reply(call, 503, "ServiceUnavailable", f"{region} is unavailable"))
            lose = lose or verdict == "lost"
        met = self.troubles.meet(gateway, call)
        time.sleep(met.delay_s)
        if (refusal := met.refusal(call.protocol)) is not None:
            return _finished(error_reply(call, *refusal))
        if not connected():  # it hung until its client gave up: an effect minutes later would come from nowhere
            return None, "refused"
        # S3 never shows what was: neither does AWS's.
        question = (gateway, call.service, *_asked(environ)) if call.reads and call.service != "s3" else None
        reply = self._misdirected(gateway, call) or self._moto.answer(call, environ)
        if question is not None:
            reply = self._as_known(question, reply, met)
        elif not call.reads and self.troubles.carried_out(gateway, call):
            return None, "lost"
        # A region that went down while it worked does not get its answer out: done, and never heard of.
        if lose or any(self.gates[region].setting(call.service).mode == "refuse" for region in needed):
            return None, "lost"
        return _finished(reply)

    def _as_known(self, question: Question, reply: Reply, met: Met) -> Reply:
        """The answer to a read, or an older one to the same."""
        old = self._past.before(question, met.stale_s) if met.stale_s else None
        self._past.keep(question, reply)
        if old is None:
            return reply
        if not same(old, reply):
            self.troubles.told_old(met)
        return old

    def _needed(self, gateway: str, call: Call) -> list[str]:
        """Regions that must be up for this call to be carried out."""
        needed = [gateway]
        # The legacy global STS endpoint is signed for, and served by, the global home.
        if call.global_write or (call.service == "sts" and call.region == GLOBAL_HOME):
            needed.append(GLOBAL_HOME)
        return [region for region in dict.fromkeys(needed) if region in self.gates]

    def _misdirected(self, gateway: str, call: Call) -> Reply | None:
        if call.region is None:
            return error_reply(call, 403, "MissingAuthenticationToken", "requests at this endpoint are signed (SigV4)")
        is_global = call.service in GLOBAL_SERVICES or (call.service == "sts" and call.region == GLOBAL_HOME)
        if call.region != gateway and not is_global:
            message = f"Credential should be scoped to a valid region: {gateway}, not {call.region}"
            return error_reply(call, 403, "SignatureDoesNotMatch", message)
        if call.bucket is not None and (home := bucket_region(call.bucket)) not in (None, gateway):
            reply = error_reply(call, 301, "PermanentRedirect", f"the bucket {call.bucket} is in {home}")
            return Reply(reply.status, reply.body, reply.content_type, {"x-amz-bucket-region": str(home)})
        return None


def _is_own_polling(call: Call, status: int | str) -> bool:
    """The sandbox's own parts look several times a second, for days; of them only what failed is news."""
    polling = call.caller is not None and call.caller.startswith("sandbox-") and call.caller != "sandbox-seed"
    return polling and isinstance(status, int) and status < 300


def _finished(reply: Reply) -> tuple[Reply, int]:
    return reply, reply.status


def _asked(environ: dict[str, Any]) -> tuple[str, ...]:
    """What tells one request from another, its signature aside."""
    body: bytes = environ["wsgi.input"].getvalue()
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    path, query = environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", "")
    return environ["REQUEST_METHOD"], target, path, query, body.decode("latin-1")


def admin(cloud: Cloud, log: Lines) -> Callable[[Request], Reply]:
    """The admin API as a function."""

    def handle(request: Request) -> Reply:
        match (request.method, request.path.strip("/").split("/")):
            case ("GET", ["healthz"]):
                return json_reply({"ok": True})
            case ("GET", ["regions"]):
                return json_reply({region: gate.shown() for region, gate in cloud.gates.items()})
            case ("POST", ["regions", region]) if region in cloud.gates:
                body = request.json()
                cloud.gates[region].set(Setting.parse(body), body.get("service"))
                return json_reply(cloud.gates[region].shown())
            case ("GET", ["troubles"]):
                return json_reply({"troubles": cloud.troubles.shown()})
            case ("POST", ["regions", region, "troubles"]) if region in cloud.gates:
                cloud.troubles.begin(Trouble.parse(region, request.json()))
                return json_reply({"troubles": cloud.troubles.shown()})
            case ("POST", ["troubles", key, "end"]):
                cloud.troubles.end(key)
                return json_reply({"troubles": cloud.troubles.shown()})
            case ("GET", ["calls"]):
                following, calls = log.since(int(request.query.get("since", "0")))
                return json_reply({"next": following, "calls": calls})
        return json_reply({"error": f"nothing at {request.method} {request.path}"}, 404)

    return handle


def main() -> None:
    """Serve until SIGTERM."""
    die_with_parent()
    config = load_config()
    gc.disable()  # until warm
    log, moto = Lines(Path(config["calls"])), make_moto()
    cloud = Cloud(config["regions"], Moto(moto), log)
    ready: dict[str, Any] = {}
    for region, where in config["regions"].items():
        server = gateway_server(where["address"], int(where.get("port", 0)), partial(cloud.answer, region))
        threading.Thread(target=server.serve_forever, daemon=True, name=region).start()
        url = f"http://{where['address']}:{server.port}"
        ready[region] = {"address": where["address"], "port": server.port, "url": url}
    where = config["admin"]
    control = serve(where["address"], int(where.get("port", 0)), admin(cloud, log))
    url = f"http://{where['address']}:{control.server_port}"
    announce(regions=ready, admin={"address": where["address"], "port": control.server_port, "url": url})
    urls = {region: told["url"] for region, told in ready.items()}
    threading.Thread(target=_schedules.keep, args=(urls, ACCOUNT), daemon=True, name="schedules").start()
    threading.Thread(target=warm_up, args=(moto, config.get("warm", WARM)), daemon=True, name="warm").start()
    wait_for_term()


if __name__ == "__main__":
    main()
