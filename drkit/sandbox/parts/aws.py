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

import contextlib
import gc
import io
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from drkit.model.values import utc
from drkit.sandbox.parts import _schedules, announce, die_with_parent, load_config
from drkit.sandbox.parts._calls import GLOBAL_HOME, GLOBAL_SERVICES, Call, error_body, read_call
from drkit.sandbox.parts._gate import Gate, Setting
from drkit.sandbox.parts._lines import Lines
from drkit.sandbox.parts._past import Past, Question, same
from drkit.sandbox.parts._trouble import Met, Trouble, Troubles
from drkit.sandbox.parts._web import Reply, Request, arm_reset, json_reply, reset_is_armed, serve, wait_for_term

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
ACCOUNT = "123456789012"


class Cloud:
    """The gates of all regions before one moto."""

    def __init__(self, regions: Iterable[str], app: WsgiApp, log: Lines) -> None:
        self.gates = {region: Gate() for region in regions}
        self.troubles = Troubles()
        self._past = Past()
        self._app = app
        self._log = log
        # moto checks a condition and then writes, and another thread fits between: of two that create an object "if
        # none is there" both would win, and so hold the same lease.
        self._one_at_a_time = {service: threading.Lock() for service in ("s3", "dynamodb")}

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
                return _finished(_error(call, 503, "ServiceUnavailable", f"{region} is unavailable"))
            lose = lose or verdict == "lost"
        met = self.troubles.meet(gateway, call)
        time.sleep(met.delay_s)
        if (refusal := met.refusal(call.protocol)) is not None:
            return _finished(_error(call, *refusal))
        if not connected():  # it hung until its client gave up: an effect minutes later would come from nowhere
            return None, "refused"
        # S3 never shows what was: neither does AWS's.
        question = (gateway, call.service, *_asked(environ)) if call.reads and call.service != "s3" else None
        reply = self._misdirected(gateway, call) or self._forward(call, environ)
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
            return _error(call, 403, "MissingAuthenticationToken", "requests at this endpoint are signed (SigV4)")
        is_global = call.service in GLOBAL_SERVICES or (call.service == "sts" and call.region == GLOBAL_HOME)
        if call.region != gateway and not is_global:
            message = f"Credential should be scoped to a valid region: {gateway}, not {call.region}"
            return _error(call, 403, "SignatureDoesNotMatch", message)
        if call.bucket is not None and (home := _bucket_region(call.bucket)) not in (None, gateway):
            reply = _error(call, 301, "PermanentRedirect", f"the bucket {call.bucket} is in {home}")
            return Reply(reply.status, reply.body, reply.content_type, {"x-amz-bucket-region": str(home)})
        return None

    def _forward(self, call: Call, environ: dict[str, Any]) -> Reply:
        captured: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., None]:
            captured[:] = [(status, headers)]
            return lambda data: None

        try:
            with self._one_at_a_time.get(call.service, contextlib.nullcontext()):
                body = b"".join(self._app(environ, start_response))
        except NotImplementedError as error:
            return _not_implemented(call, str(error))
        except Exception as error:  # noqa: BLE001 (a defect of moto must not look like an outage of the region)
            if (code := _UNWORDED.get((call.operation, type(error)))) is not None:
                return _error(call, 400, code, "moto has no words for it")
            traceback.print_exc()
            return _error(call, 500, "InternalFailure", f"moto failed: {type(error).__name__}: {error}")
        line, headers = captured[0]
        status = int(line.split()[0])
        kept = {name: value for name, value in headers if name.lower() != "connection"}
        content_type = kept.pop("Content-Type", "")
        if content_type.startswith("text/html") and status in (404, 405, 500) and call.service != "s3":
            return _not_implemented(call, "no such API here")
        return Reply(status, body, content_type, kept)


_UNWORDED: Mapping[tuple[str, type[Exception]], str] = {
    ("DeleteNetworkAclEntry", StopIteration): "InvalidNetworkAclEntry.NotFound",
}
"""What AWS answers where moto falls over its own search."""


def _is_own_polling(call: Call, status: int | str) -> bool:
    """The sandbox's own parts look several times a second, for days; of them only what failed is news."""
    polling = call.caller is not None and call.caller.startswith("sandbox-") and call.caller != "sandbox-seed"
    return polling and isinstance(status, int) and status < 300


def _finished(reply: Reply) -> tuple[Reply, int]:
    return reply, reply.status


def _not_implemented(call: Call, detail: str) -> Reply:
    message = f"{call.service} {call.operation} is not supported by this endpoint"
    return _error(call, 501, "NotImplemented", f"{message} ({detail})" if detail else message)


def _error(call: Call, status: int, code: str, message: str) -> Reply:
    content_type, body, headers = error_body(call, code, message)
    return Reply(status, body, content_type, headers)


def _bucket_region(bucket: str) -> str | None:
    from moto.backends import get_backend

    found = get_backend("s3")[ACCOUNT]["aws"].buckets.get(bucket)
    return None if found is None else str(found.region_name)


def gateway_server(address: str, port: int, region: str, cloud: Cloud) -> Any:
    """The listening server of one region's gateway, not yet serving. Raises OSError."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import ThreadedWSGIServer

    class Handler(MotoRequestHandler):  # type: ignore[misc]
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def run_wsgi(self) -> None:
            if self.headers.get("Expect", "").lower().strip() == "100-continue":
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self.wfile.flush()
            environ = self.make_environ()
            body = _read_body(environ)
            target = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            call = read_call(self.command, target.path, target.query, headers, body)
            if target.path.startswith("/moto-api"):  # would let a client reset the world
                self._send(_error(call, 404, "NotFound", "not an AWS API"))
                return
            reply = cloud.answer(region, call, environ, lambda: _connected(self.connection))
            if reply is None:
                arm_reset(self.connection)
                self.close_connection = True
            else:
                self._send(reply)

        def _send(self, reply: Reply) -> None:
            bare = self.command == "HEAD" or reply.status in (204, 304)
            self.send_response(reply.status)
            for name, value in _wire_headers(reply, bare=bare).items():
                self.send_header(name, value)
            self.end_headers()
            if not bare:
                self.wfile.write(reply.body)
            self.wfile.flush()

        def log_request(self, *_: Any) -> None:
            """The call log has it."""

    class GatewayServer(ThreadedWSGIServer):  # type: ignore[misc]
        def shutdown_request(self, request: Any) -> None:
            if reset_is_armed(request):
                request.close()
            else:
                super().shutdown_request(request)

        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)

    return GatewayServer(address, port, lambda environ, start: (), Handler)


def _connected(connection: socket.socket) -> bool:
    """False if the client has closed its side."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def _asked(environ: dict[str, Any]) -> tuple[str, ...]:
    """What tells one request from another, its signature aside."""
    body: bytes = environ["wsgi.input"].getvalue()
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    path, query = environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", "")
    return environ["REQUEST_METHOD"], target, path, query, body.decode("latin-1")


def _read_body(environ: dict[str, Any]) -> bytes:
    """Read the request's body whole and put it back, so that a kept-alive connection stays in step."""
    stream = environ["wsgi.input"]
    if environ.get("wsgi.input_terminated"):
        body: bytes = stream.read()
    else:
        body = stream.read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    return body


def _wire_headers(reply: Reply, *, bare: bool) -> Mapping[str, str]:
    headers = {**({"Content-Type": reply.content_type} if reply.content_type else {}), **reply.headers}
    if bare:  # of a HEAD, the length is the object's
        return headers
    return {**headers, "Content-Length": str(len(reply.body))}


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


WARM = [
    "ec2",
    "s3",
    "iam",
    "route53",
    "acm",
    "dynamodb",
    "sqs",
    "kms",
    "secretsmanager",
    "ecr",
    "efs",
    "backup",
    "elasticache",
    "ssm",
    "autoscaling",
    "elbv2",
    "wafv2",
    "sns",
    "cloudwatch",
    "cloudtrail",
    "guardduty",
    "events",
    "sts",
    "servicequotas",
    "cloudformation",
]
"""moto's names of the services that the sandbox uses, in the order in which seeding needs them."""


def make_moto() -> Any:
    """moto as one WSGI application."""
    from moto.server import DomainDispatcherApplication, create_backend_app

    def create(service: Any) -> Any:
        if service is None:
            raise NotImplementedError("no such service here")
        return create_backend_app(service)

    return DomainDispatcherApplication(create)


def warm_up(app: Any, services: Sequence[str]) -> None:
    """Load these services now, as the first call of each is slow (of EC2, two seconds)."""
    from moto.core.utils import get_service_model

    for service in services:
        made = app.create_app(service)
        get_service_model(_BOTO_NAMES.get(service, service))
        with app.lock:
            app.app_instances.setdefault(service, made)
    # A quarter of the loading would be spent on looking for garbage among models that stay for ever.
    gc.freeze()
    gc.enable()


_BOTO_NAMES = {"servicequotas": "service-quotas"}


def main() -> None:
    """Serve until SIGTERM."""
    die_with_parent()
    config = load_config()
    gc.disable()  # until warm
    log, moto = Lines(Path(config["calls"])), make_moto()
    cloud = Cloud(config["regions"], moto, log)
    ready: dict[str, Any] = {}
    for region, where in config["regions"].items():
        server = gateway_server(where["address"], int(where.get("port", 0)), region, cloud)
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
