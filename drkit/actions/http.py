"""HTTP: is it healthy, and can a user do what users do; asked at an address of our choosing or where DNS leads."""

from __future__ import annotations

import uuid
from urllib.parse import urlsplit

from drkit.catalog import probe
from drkit.context import Context
from drkit.errors import OutcomeUnknown, Unobservable
from drkit.model.environment import Address
from drkit.model.observation import Observation
from drkit.model.params import Params, SiteName
from drkit.providers.dns import Dns
from drkit.providers.http import Answer, Http


class Target(Params):
    """What to ask, and where to connect."""

    url: str = ""
    """URL; empty: the environment's service. A path alone is asked of the service."""
    pin: SiteName = ""
    """Site to whose entry to connect, whatever DNS says; empty: where DNS leads users."""


class Health(Observation):
    """What a health check answered. `status` null: nobody answered, `why` says how."""

    ok: bool
    status: int | None = None
    address: str | None = None
    served_by: str | None = None
    why: str | None = None


class Visitor:
    """Requests as a user's browser would send them, pinned or through the environment's resolvers."""

    def __init__(self, ctx: Context, p: Target) -> None:
        self._ctx = ctx
        self._p = p
        service = ctx.environment.service
        if service is None and "://" not in p.url:
            raise Unobservable("This environment names no service.")
        self.base = (
            p.url if "://" in p.url else f"{service.scheme}://{service.hostname}:{service.port}" if service else ""
        )

    async def ask(self, method: str, path: str = "", body: object | None = None, timeout_s: float = 2.0) -> Answer:
        """One request at the base URL plus `path`. Unobservable without an answer."""
        pin = await self._address()
        url = self.base + path
        headers = {"User-Agent": "drkit-journey"}
        try:
            return await self._ctx.use(Http).request(
                method, url, pin=pin, json_body=body, headers=headers, timeout_s=timeout_s
            )
        except OutcomeUnknown as error:
            raise Unobservable(error.message) from error

    async def _address(self) -> Address | None:
        if self._p.pin:
            site = self._ctx.site(self._p.pin)
            if site.edge is None:
                raise Unobservable(f"{site.name} has no entry for users.")
            return site.edge
        names, parts = self._ctx.environment.dns, urlsplit(self.base)
        host = parts.hostname or ""
        if names is None or not (host == names.zone or host.endswith("." + names.zone)):
            return None
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return Address(host=await self._ctx.use(Dns).resolve(host), port=port)


@probe("http.health")
async def health(ctx: Context, p: Target) -> Health:
    """GET a URL once: healthy is any 2xx. No answer is an answer, too: not healthy."""
    path = p.url if p.url.startswith("/") else "" if p.url else "/healthz"
    visitor = Visitor(ctx, p if not p.url.startswith("/") else p.but(url=""))
    try:
        answer = await visitor.ask("GET", path)
    except Unobservable as error:
        return Health(ok=False, why=error.message)
    return Health(
        ok=200 <= answer.status < 300,
        status=answer.status,
        address=answer.address,
        served_by=answer.headers.get("x-served-by"),
        answered_by=answer.headers.get("x-served-by"),
    )


class Journey(Target):
    """A user's way through the service."""

    visits: list[str] = ["browse", "order"]
    """What the user does, in order: browse, order, login, pay, upload."""


class Travelled(Observation):
    """How a journey went. `order_id` is that of the test order, placed in the name of `reference`."""

    ok: bool
    done: list[str]
    failed_at: str | None = None
    why: str | None = None
    served_by: str | None = None
    reference: str
    order_id: str | None = None


@probe("http.journey")
async def journey(ctx: Context, p: Journey) -> Travelled:
    """Do what a user does, with a test order of a test customer, and stop where it does not work."""
    visitor = Visitor(ctx, p)
    traveller = Traveller(visitor, f"{ctx.token}-{uuid.uuid4().hex[:8]}")
    done: list[str] = []
    for visit in p.visits:
        try:
            why = await traveller.do(visit)
        except Unobservable as error:
            why = error.message
        if why is not None:
            return traveller.report(done, visit, why)
        done.append(visit)
    return traveller.report(done)


class Traveller:
    """One test user and what it has in hand."""

    def __init__(self, visitor: Visitor, reference: str) -> None:
        self._visitor = visitor
        self._reference = reference
        self._order_id: str | None = None
        self._served_by: str | None = None

    async def do(self, visit: str) -> str | None:
        """Why a visit did not work; None if it did."""
        match visit:
            case "browse":
                return self._why(await self._visitor.ask("GET", "/catalog"), "products")
            case "login":
                return self._why(await self._visitor.ask("POST", "/login", {"login": "synthetic"}), "session")
            case "pay":
                if self._order_id is None:
                    return "there is no order to pay"
                return self._why(await self._visitor.ask("POST", "/pay", {"order_id": self._order_id}), "amount")
            case "upload":
                answer = await self._visitor.ask("POST", "/upload", {"reference": self._reference}, timeout_s=4)
                return self._why(answer, "key")
            case "order":
                body = {"sku": "probe", "quantity": 1, "customer": "synthetic", "reference": self._reference}
                answer = await self._visitor.ask("POST", "/orders", body)
                why = self._why(answer, "order_id")
                if why is None:
                    self._order_id = str(answer.json()["order_id"])
                return why
        return f"nobody knows how to {visit}"

    def _why(self, answer: Answer, wanted: str) -> str | None:
        self._served_by = answer.headers.get("x-served-by", self._served_by)
        if not 200 <= answer.status < 300:
            return f"answered {answer.status}"
        body = answer.json()
        return None if isinstance(body, dict) and body.get(wanted) else f"the answer has no {wanted}"

    def report(self, done: list[str], failed_at: str | None = None, why: str | None = None) -> Travelled:
        """How it went."""
        return Travelled(
            ok=failed_at is None,
            done=done,
            failed_at=failed_at,
            why=why,
            served_by=self._served_by,
            answered_by=self._served_by,
            reference=self._reference,
            order_id=self._order_id,
        )
