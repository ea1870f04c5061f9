"""Routing controls (Amazon Application Recovery Controller's data plane): any endpoint that answers can move traffic.

The cluster is asked at the endpoints of several sites in turn. The site being left is asked last: what it says is the
least to be relied on, and waiting for it costs users time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

import anyio
import anyio.to_thread

from drkit.errors import OutcomeUnknown, ShutOut, StepFailed, Unobservable, Unreachable
from drkit.model import written
from drkit.model.environment import Environment, Site
from drkit.providers.aws import translated
from drkit.providers.credentials import Clients, Secrets

T = TypeVar("T")
_TIMEOUT_S = 3.0


class Routing:
    """The routing controls of one environment, by name (`cell-10/us-west-2`)."""

    def __init__(self, environment: Environment, secrets: Secrets | None = None) -> None:
        """`secrets`: needed where the environment says where its AWS credentials are written down."""
        self._environment = environment
        self._clients = Clients(environment.aws_credentials, secrets)
        self._arns: dict[str, str] = {}
        self.answered_by: str | None = None
        """Site whose endpoint answered last."""

    @classmethod
    def connect(cls, environment: Environment, secrets: Secrets) -> Self:
        """A provider; opens nothing yet."""
        return cls(environment, secrets)

    async def aclose(self) -> None:
        """Close every client's connections."""
        self._clients.close()

    async def states(self, *, last: str) -> dict[str, bool]:
        """Every control: on or off. `last` is the site to ask last. Unobservable if no endpoint says."""

        def ask(client: Any) -> dict[str, bool]:
            found: dict[str, bool] = {}
            more: dict[str, str] = {}
            while True:
                page = client.list_routing_controls(**more)
                for control in page["RoutingControls"]:
                    self._arns[control["RoutingControlName"]] = control["RoutingControlArn"]
                    found[control["RoutingControlName"]] = control["RoutingControlState"] == "On"
                if not page.get("NextToken"):
                    return found
                more = {"NextToken": page["NextToken"]}

        return await self._ask_in_turn(ask, last, writes=False)

    async def set(self, wanted: Mapping[str, bool], *, last: str) -> None:
        """Set these controls, all or none; repeating it is harmless. StepFailed if refused or unknown."""
        if not set(wanted) <= set(self._arns):
            await self.states(last=last)
        unknown = sorted(set(wanted) - set(self._arns))
        if unknown:
            why = f"There are no routing controls called {', '.join(unknown)}."
            raise StepFailed(why, world=written.so_far().world)
        entries = [
            {"RoutingControlArn": self._arns[name], "RoutingControlState": "On" if on else "Off"}
            for name, on in sorted(wanted.items())
        ]

        def send(client: Any) -> None:
            client.update_routing_control_states(UpdateRoutingControlStateEntries=entries)

        with written.writing(f"setting of {', '.join(sorted(wanted))}"):
            await self._ask_in_turn(send, last, writes=True)

    async def _ask_in_turn(self, ask: Callable[[Any], T], last: str, *, writes: bool) -> T:
        failures: list[str] = []
        uncertain, shut_out = False, True
        for site in endpoints(self._environment, last):
            try:
                answer = await self._ask(ask, site, writes)
            except (Unobservable, OutcomeUnknown) as error:
                # States are set, not toggled: another endpoint may be told the same again.
                uncertain = uncertain or isinstance(error, OutcomeUnknown)
                shut_out = shut_out and isinstance(error, ShutOut)
                failures.append(error.message)
                continue
            self.answered_by = site.name
            return answer
        said = " ".join(failures) or "This environment has no routing endpoints."
        if uncertain:
            raise OutcomeUnknown(said)
        raise ShutOut(said, hint="aws sts get-caller-identity") if failures and shut_out else Unreachable(said)

    async def _ask(self, ask: Callable[[Any], T], site: Site, writes: bool) -> T:
        from botocore.exceptions import BotoCoreError, ClientError

        label = f"the routing endpoint in {site.name}"
        region = site.name if site.kind == "region" else self._environment.regions[-1]

        def send() -> T:
            return self._clients.ask(
                ask, region=region, service="route53-recovery-cluster", endpoint=site.routing_endpoint, attempts=1,
                writes=writes,
            )  # fmt: skip

        try:
            with anyio.fail_after(_TIMEOUT_S):
                return await anyio.to_thread.run_sync(send, abandon_on_cancel=True)
        except TimeoutError as slow:
            message = f"{label} gave no answer within {_TIMEOUT_S:g} s."
            raise (OutcomeUnknown(message) if writes else Unobservable(message)) from slow
        except (BotoCoreError, ClientError) as error:
            raise translated(error, label, writes) from error


def endpoints(environment: Environment, last: str) -> list[Site]:
    """Sites with a routing endpoint, in the order to ask them."""
    found = [site for site in environment.sites if site.routing_endpoint]
    return sorted(found, key=lambda site: site.name == last)
