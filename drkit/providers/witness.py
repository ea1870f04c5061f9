"""The witness: who holds the writer's lease, since when it has not been renewed, and the order to renew it no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from drkit.errors import Refused, StepFailed, Unobservable
from drkit.model import written
from drkit.model.environment import Witness
from drkit.model.permit import Permit
from drkit.providers.http import LATE, Answer, OverHttp, permitted


@dataclass(frozen=True, slots=True)
class WriterLease:
    """The writer's lease as the witness sees it, counted on the witness's own monotonic clock.

    `expired`: it was released, or its last renewal is longer ago than `term_s` + `margin_s`: whoever held it has
    stopped itself.
    """

    holder: str | None
    site: str | None
    epoch: int
    released: bool
    revoked: str | None
    seconds_since_renewal: float
    term_s: float
    margin_s: float
    expired: bool


class WitnessClient(OverHttp):
    """The environment's witness."""

    @property
    def witness(self) -> Witness:
        """Who is asked. Unobservable if the environment has no witness."""
        if self._environment.witness is None:
            raise Unobservable("This environment has no witness.")
        return self._environment.witness

    async def lease(self) -> WriterLease:
        """The lease now. Unreachable or Unobservable if the witness does not say."""
        return _lease(await self._ask())

    async def revoke(self, reason: str, *, permit: Permit) -> WriterLease:
        """Refuse every further renewal: from now on the holder's time runs out. Refused if our lease is over."""
        body = {"reason": reason, "permit": permitted(permit, await self._ask())}
        answer = await self._http.request("POST", f"{self.witness.url}/revoke", json_body=body, timeout_s=2)
        if answer.status == LATE:
            raise Refused(f"The witness refused to revoke the lease: {answer.json().get('error')}.")
        if answer.status != 200:
            raise StepFailed(f"The witness refused to revoke the lease: {answer.status}.", world=written.so_far().world)
        return _lease(answer)

    async def _ask(self) -> Answer:
        return await self._http.request("GET", f"{self.witness.url}/lease", timeout_s=2)


def _lease(answer: Answer) -> WriterLease:
    body: dict[str, Any] = answer.json()
    try:
        return WriterLease(**{name: body[name] for name in WriterLease.__dataclass_fields__})
    except (KeyError, TypeError) as error:
        raise Unobservable(f"The witness answered {answer.status} without {error}.") from error
