"""The dead-man agent beside a database: what it says of its server, and the word of two persons that it is given.

Everything else about a writer is asked of the server and the witness; an agent matters where no witness answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from drkit.errors import Refused, StepFailed, Unobservable
from drkit.model.environment import Database
from drkit.model.permit import Permit
from drkit.providers.http import LATE, Answer, OverHttp, permitted
from drkit.providers.postgres import Identity, why_not_meant


@dataclass(frozen=True, slots=True)
class OverriddenWriter:
    """A server that writes by override: the epoch it took, and on whose word."""

    epoch: int
    by: tuple[str, ...]


class Agents(OverHttp):
    """The agents of an environment's databases."""

    async def overridden(self, name: str, site: str) -> OverriddenWriter | None:
        """Whether the server writes by override now. Unobservable if there is no agent or it does not answer."""
        said = await self._status(self._environment.database(name, site))
        lease, override = said.get("lease") or {}, said.get("override") or {}
        if said.get("role") != "primary" or not lease.get("by_override"):
            return None
        return OverriddenWriter(int(lease["epoch"]), tuple(override.get("by", ())))

    async def promote(
        self, name: str, site: str, *, by: Sequence[str], run: str, permit: Permit, loss_s: float, timeout_s: float
    ) -> None:
        """Have a standby promoted on the word of these persons, also if no witness answers.

        Refused if somebody else answers there or our lease is over, Unobservable if nobody does, StepFailed if the
        agent refuses.
        """
        database = self._environment.database(name, site)
        asked = await self._ask(database)
        said = _body(asked)
        who = Identity(str(said.get("system_identifier")), bool(said.get("in_recovery")))
        if (why := why_not_meant(who, database, "standby")) is not None:
            raise Refused(f"The agent at {database.agent} is not beside whom this was meant for: {why}.")
        override = {"by": list(by), "run": run, "token": permit.token, "loss_s": loss_s}
        answer = await self._http.request(
            "POST", f"{database.agent}/promote", timeout_s=timeout_s,
            json_body={"override": override, "permit": permitted(permit, asked)},
        )  # fmt: skip
        if answer.status == LATE:
            raise Refused(f"The agent of {name} in {site} refused: {_body(answer).get('error')}.")
        if answer.status != 200:
            left = _body(answer)
            world = "untouched" if left.get("in_recovery") else "changed"
            raise StepFailed(f"The agent of {name} in {site} refused: {left.get('error')}.", world=world)

    async def _status(self, database: Database) -> dict[str, Any]:
        return _body(await self._ask(database))

    async def _ask(self, database: Database) -> Answer:
        if database.agent is None:
            raise Unobservable(f"Nobody beside {database.name} in {database.site} can be asked: it has no agent.")
        return await self._http.request("GET", f"{database.agent}/status", timeout_s=2)


def _body(answer: Answer) -> dict[str, Any]:
    found = answer.json()
    if not isinstance(found, dict):
        raise Unobservable(f"{answer.address} answered {answer.status} with {found!r}.")
    return found
