"""The readings of a run: attach the environment's prober, wait until it can show the end, count what survived.

The ledgers say what users were promised; the recovered database says what is there. Tables it must have for that:
`canary (n)`, and `orders (order_uuid, reference)`, whose reference begins with the id of the prober's orders ledger.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drkit.errors import DrkitError, Unobservable

if TYPE_CHECKING:
    from drkit.context import Secrets
    from drkit.engine.runs import Request, RunFolder
    from drkit.measure.journeys import UsersNow
    from drkit.model.environment import Environment
    from drkit.model.events import Fact
    from drkit.model.measurements import Attached, ReadingsRef

_CANARY = "select n from canary where n >= %s order by n"
_ORDERS = "select order_uuid::text as id, reference from orders where reference like %s || '-%%'"
_POLL_S = 0.25
#: Beyond the window: what a journey may take to be answered, and some for the prober to write it down.
_SLACK_S = 4.0


class Readings:
    """What one runner needs of the environment's readings. Its methods block: call them in a thread."""

    def __init__(self, request: Request, folder: RunFolder, secrets: Secrets) -> None:
        self._environment = request.environment
        self._target = request.plan.target
        self._recovers = request.plan.recovers
        self._folder = folder
        self._secrets = secrets
        self._ending = False

    def attach(self) -> Sequence[Fact]:
        """The readings as they are now; at the end of the run also what the database holds."""
        from drkit.measure import findings
        from drkit.model.events import Measured, Noted

        attached = findings.attach(self._environment)
        refs = list(attached.refs)
        reasons = list(attached.reasons) if self._environment.prober is not None else []
        if self._ending and attached.orders is not None:
            try:
                refs.append(self._recount(attached))
            except DrkitError as error:
                reasons.append(f"what survived could not be counted: {error.message}")
        facts: list[Fact] = [Measured(readings=ref.model_dump(mode="json")) for ref in refs]
        by: dict[str, Any] = {"name": "drkit", "how": "runner"}
        return facts + [Noted(text=reason, by=by) for reason in reasons]

    def settle(self) -> None:
        """Wait until users have been served for the whole window, or until they should have been."""
        prober = self._environment.prober
        if prober is None or not self._recovers:
            return
        self._ending = True
        deadline = time.monotonic() + prober.window_s + _SLACK_S
        while time.monotonic() < deadline:
            seen = users(self._environment, over_s=prober.window_s + 1)
            if seen is None or (seen.success_rate >= prober.objective and seen.writes_ok):
                return
            time.sleep(_POLL_S)

    def keep(self, refs: Sequence[ReadingsRef]) -> None:
        """Copy the readings that the journal names beside it: the environment may go, the report stays provable."""
        for ref in refs:
            original, copy = Path(ref.path), self._folder.path / Path(ref.path).name
            if original.is_file() and original != copy:
                shutil.copyfile(original, copy)

    def _recount(self, attached: Attached) -> ReadingsRef:
        """Write down which canaries and orders the database holds that serves now."""
        import anyio

        from drkit.measure import ledgers, readings

        parts = [readings.read(Path(ref.path)) for ref in (attached.canary, attached.orders) if ref is not None]
        first = ledgers.first_canary(parts)
        orders_id = attached.orders.id if attached.orders is not None else ""
        found = anyio.run(self._ask, first, orders_id)
        path = self._folder.path / f"present-{time.time_ns()}.jsonl"
        return ledgers.write_present(path, id=path.stem, canary=found[0], orders=found[1], source=found[2])

    async def _ask(self, first: int | None, orders_id: str) -> tuple[list[int], dict[str, str], dict[str, Any]]:
        from drkit.providers.postgres import Postgres

        sites = sorted(self._environment.databases, key=lambda database: database.site != self._target)
        postgres = Postgres.connect(self._environment, self._secrets)
        try:
            for database in sites:
                try:
                    who = await postgres.identity(database.name, database.site)
                except Unobservable:
                    continue
                if who.role != "primary":
                    continue
                name, site = database.name, database.site
                canaries = await postgres.query(name, site, _CANARY, (first or 0,), timeout_s=20)
                orders = await postgres.query(name, site, _ORDERS, (orders_id,), timeout_s=20)
                source: dict[str, Any] = {"database": name, "site": site, "answered_by": str(who)}
                return [row["n"] for row in canaries], {row["id"]: row["reference"] for row in orders}, source
        finally:
            await postgres.aclose()
        raise Unobservable("no database of this environment answers as a primary")


def users(environment: Environment, *, over_s: float = 5.0) -> UsersNow | None:
    """What users see right now, by the environment's prober; None if nobody looks."""
    from drkit.measure.journeys import users_now
    from drkit.measure.readings import announced

    prober = environment.prober
    if prober is None:
        return None
    try:
        return users_now(announced(Path(prober.folder))["probes"], over_s=over_s, objective=prober.objective)
    except (Unobservable, OSError, ValueError, KeyError):
        return None  # a figure that cannot be had is not shown; the report says why
