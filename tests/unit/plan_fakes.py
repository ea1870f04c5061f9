"""A small catalog, an environment and a runbook for the tests of drkit.plan. Nothing here reaches anything."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge

from drkit.catalog import Catalog, Gate, action, fault, probe
from drkit.context import Context
from drkit.model.environment import Environment, Person, Site
from drkit.model.faults import Leased
from drkit.model.observation import Observation
from drkit.model.paper import Paper
from drkit.model.params import Params, SiteName, Use
from drkit.model.values import Duration, Json


class Workload(Params):
    """A deployment."""

    deployment: str
    """Its name."""
    region: SiteName = "target"
    """Where it runs."""


class Replicas(Observation):
    """Replicas, wanted and there."""

    desired: int
    ready: int
    state: Literal["running", "starting"] = "running"
    lag: Duration | None = None
    lag_s: float = 0.0
    images: dict[str, str] = {}
    zones: tuple[str, ...] = ()


@probe("k8s.replicas")
async def replicas(ctx: Context, p: Workload) -> Replicas:
    """Look at a deployment's replicas."""
    raise NotImplementedError


class Scale(Workload):
    """Scale a deployment and wait until that many replicas are ready."""

    to: Annotated[int, Ge(0)]
    """Replicas wanted."""
    wait: Duration = 30.0
    """How long one attempt waits."""
    labels: dict[str, str] = {}
    """Labels to set."""
    zones: tuple[str, ...] = ()
    """Zones to spread over."""


@action("k8s.scale", observe=replicas, repeat="safe", timeout_s=90)
async def scale(ctx: Context, p: Scale, before: Replicas) -> None:
    """Send the wanted number."""


@scale.check
def scaled(p: Scale, now: Replicas) -> bool:
    return now.desired == p.to == now.ready


@scale.undo
def scale_back(p: Scale, before: Replicas, after: Replicas | None) -> Use | None:
    return scale.use(p.but(to=before.desired))


class Cluster(Params):
    """A database cluster."""

    cluster: str
    """Its name."""
    region: SiteName
    """Side that is meant."""


class Writer(Observation):
    """Who writes."""

    writable: bool
    position: str | None = None
    lag_s: float = 0.0


@probe("db.writer")
async def writer(ctx: Context, p: Cluster) -> Writer:
    """Look who writes."""
    raise NotImplementedError


@action("db.fence", observe=writer, repeat="safe", side="source", fences=True, unfenced=False, irreversible="for good")
async def fence(ctx: Context, p: Cluster, before: Writer) -> None:
    """Make the old writer unable to write."""


@fence.check
def fenced(p: Cluster, now: Writer) -> bool:
    return not now.writable


@action("db.promote", observe=writer, repeat="ask", side="target", promotes=True, irreversible="there is no way back")
async def promote(ctx: Context, p: Cluster, before: Writer) -> None:
    """Make the standby the writer."""


@promote.check
def promoted(p: Cluster, now: Writer) -> bool:
    return now.writable


@action("cloud.freeze", observe=writer, repeat="token", side="source", plane="control", irreversible="stays frozen")
async def freeze(ctx: Context, p: Cluster, before: Writer) -> None:
    """Freeze deployments."""


@freeze.check
def frozen(p: Cluster, now: Writer) -> bool:
    return not now.writable


@promote.by_hand
def promote_by_hand(p: Cluster, paper: Paper) -> str:
    return f"dbctl promote {p.cluster} --at {paper.site(p.region).name}"


class Cut(Cluster, Leased):
    """A cluster that is to be cut off."""

    original: bool = False
    """It is no copy."""


@fault("db.cut", observe=writer, lease="the test", consent="original")
async def cut(ctx: Context, p: Cut, before: Writer) -> None:
    """Cut a cluster off."""


@cut.check
def is_cut(p: Cut, now: Writer) -> bool:
    return not now.writable


@cut.healed_by
async def mend(ctx: Context, p: Cut, before: Writer) -> None:
    """Connect it again."""


@fault("db.lose", observe=writer, irreversible="what was on it is gone for good")
async def lose(ctx: Context, p: Cluster, before: Writer) -> None:
    """Lose a cluster."""


@lose.check
def is_lost(p: Cluster, now: Writer) -> bool:
    return not now.writable


class Ask(Params):
    """Wait for a person."""

    role: str
    """Who must answer."""
    timeout: Duration = 600.0
    """How long the question stands."""
    show: dict[str, Json] = {}
    """What is shown."""


approve = Gate("ask.approve", Ask, doc="Wait until a person in a role has approved.", module=__name__)


def catalog() -> Catalog:
    """A catalog of these entries beside what is installed."""
    catalog = Catalog()
    assert cut.heal is not None
    known = (replicas, scale, writer, fence, promote, freeze, cut, cut.heal, lose, approve)
    catalog._entries.update({each.name: each for each in known})
    return catalog


def environment(**more: object) -> Environment:
    """Two regions and a site beside them."""
    return Environment.model_validate(
        {
            "name": "lab", "kind": "staging", "account": "lab (..0001)", "state_store": "file:///nowhere",
            "sites": (
                Site(name="us-east-1", kind="region"), Site(name="us-west-2", kind="region"),
                Site(name="onprem", kind="on-prem"),
            ),
            "people": (Person(name="dana", roles=("incident-commander",)),),
        } | more
    )  # fmt: skip


HEAD = """\
apiVersion: drkit/v1
kind: Runbook
metadata: {name: checkout, owner: payments-oncall, regions: [us-east-1, us-west-2]}
objectives: {rto: 15m, rpo: 30s}
parameters:
  replicas: {default: 24}
  hold: {default: 10m}
probes:
  web: {uses: k8s.replicas, with: {deployment: checkout, region: target}}
recovered_when: "probes.web.ready >= 1"
"""

GOOD = (
    HEAD
    + """\
decide: "probes.web.lag < duration('30s') && probes.web.ready > 0"
steps:
  - {id: scale, uses: k8s.scale, with: {deployment: checkout, to: "${ params.replicas }"}, needs: []}
  - {id: go, uses: ask.approve, with: {role: incident-commander, timeout: 5m}, needs: []}
  - {id: fence, uses: db.fence, with: {cluster: checkout, region: source}}
  - {id: promote, uses: db.promote, with: {cluster: checkout, region: target}, timeout: 5m}
  - {id: smoke, uses: k8s.replicas, with: {deployment: checkout}, verify: "now.ready == params.replicas",
     hold: "${ params.hold }", needs: [promote, scale]}
  - {id: more, uses: k8s.scale, with: {deployment: "web-${ steps.scale.ready }", to: "${ steps.smoke.ready }"}}
"""
)


def write(folder: Path, text: str, name: str = "checkout.yaml") -> Path:
    """A file with this text."""
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path
