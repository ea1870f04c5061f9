"""moto, which knows what AWS would answer: one application for all services and regions, and what it leaves unsaid.

What it does not implement is answered as AWS would word it (501 `NotImplemented`), and a defect of its own as one (500
`InternalFailure`): neither may look like an outage of the region.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from drkit.sandbox.parts._calls import Call, error_body
from drkit.sandbox.parts._web import Reply

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
ACCOUNT = "123456789012"

_UNWORDED: Mapping[tuple[str, type[Exception]], str] = {
    ("DeleteNetworkAclEntry", StopIteration): "InvalidNetworkAclEntry.NotFound",
}
"""What AWS answers where moto falls over its own search."""


class Moto:
    """The application, asked one request at a time where it could not keep a condition otherwise."""

    def __init__(self, app: WsgiApp) -> None:
        self._app = app
        # moto checks a condition and then writes, and another thread fits between: of two that create an object "if
        # none is there" both would win, and so hold the same lease.
        self._one_at_a_time = {service: threading.Lock() for service in ("s3", "dynamodb")}

    def answer(self, call: Call, environ: dict[str, Any]) -> Reply:
        """What it says to one request; what it cannot do is said as AWS says it."""
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
                return error_reply(call, 400, code, "moto has no words for it")
            traceback.print_exc()
            return error_reply(call, 500, "InternalFailure", f"moto failed: {type(error).__name__}: {error}")
        line, headers = captured[0]
        status = int(line.split()[0])
        kept = {name: value for name, value in headers if name.lower() != "connection"}
        content_type = kept.pop("Content-Type", "")
        if content_type.startswith("text/html") and status in (404, 405, 500) and call.service != "s3":
            return _not_implemented(call, "no such API here")
        return Reply(status, body, content_type, kept)


def _not_implemented(call: Call, detail: str) -> Reply:
    message = f"{call.service} {call.operation} is not supported by this endpoint"
    return error_reply(call, 501, "NotImplemented", f"{message} ({detail})" if detail else message)


def error_reply(call: Call, status: int, code: str, message: str) -> Reply:
    """An error as AWS words it for this call."""
    content_type, body, headers = error_body(call, code, message)
    return Reply(status, body, content_type, headers)


def bucket_region(bucket: str) -> str | None:
    """Where it lives; None: there is none."""
    from moto.backends import get_backend

    found = get_backend("s3")[ACCOUNT]["aws"].buckets.get(bucket)
    return None if found is None else str(found.region_name)


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
