"""The world's control API as a provider: how actions of the sandbox reach the supervisor."""

from __future__ import annotations

from typing import Any, Self

from drkit.errors import NotSupported, Refused, StepFailed, Unobservable
from drkit.model.environment import Environment
from drkit.model.permit import Permit
from drkit.providers.http import LATE, Answer, Http, permitted


class World:
    """The sandbox's supervisor. Unobservable if it does not answer, NotSupported where there is no sandbox."""

    def __init__(self, control: str) -> None:
        self._control = control
        self._http = Http()

    @classmethod
    def connect(cls, environment: Environment, secrets: object) -> Self:
        """A client; opens nothing yet. NotSupported for an environment that is no sandbox."""
        if environment.control is None:
            raise NotSupported(f"{environment.name} is not a sandbox: nothing here can take a region down.")
        return cls(environment.control)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    async def status(self) -> dict[str, Any]:
        """Parts, links and outages as they are now."""
        return _body(await self._ask())

    async def faults(self) -> list[dict[str, Any]]:
        """Outages and troubles that somebody injected, with their ends."""
        return await self._listed("faults")

    async def troubles(self) -> list[dict[str, Any]]:
        """What the AWS API does to some calls."""
        return await self._listed("troubles")

    async def change(
        self, path: str, body: dict[str, Any], *, permit: Permit | None, timeout_s: float = 30
    ) -> dict[str, Any]:  # fmt: skip
        """Ask for a change. Refused if our lease is over, StepFailed with the supervisor's own words if it refuses."""
        if permit is not None:
            body = {**body, "permit": permitted(permit, await self._ask())}
        answer = await self._http.request("POST", f"{self._control}{path}", json_body=body, timeout_s=timeout_s)
        if answer.status == LATE:
            raise Refused(f"The sandbox refused {path}: {_body(answer).get('error')}.")
        if answer.status >= 400:
            raise StepFailed(f"The sandbox refused {path}: {_body(answer).get('error')}.", world="untouched")
        return _body(answer)

    async def _listed(self, what: str) -> list[dict[str, Any]]:
        answer = await self._http.request("GET", f"{self._control}/{what}", timeout_s=6)
        body = _body(answer)
        if answer.status >= 400:
            raise Unobservable(f"The sandbox does not say which {what} there are: {body.get('error')}.")
        return list(body[what])

    async def _ask(self) -> Answer:
        return await self._http.request("GET", f"{self._control}/status", timeout_s=5)


def _body(answer: Answer) -> dict[str, Any]:
    found = answer.json()
    if not isinstance(found, dict):
        raise Unobservable(f"The sandbox answered {answer.status} with something that is no object.")
    return found
