"""SSM parameters: what the application and its surroundings read to know where things are."""

from __future__ import annotations

from drkit.catalog import action, probe
from drkit.context import Context
from drkit.model.observation import Observation
from drkit.model.paper import Paper, lines
from drkit.model.params import Params, SiteName, Use
from drkit.providers.aws import Aws, AwsError


class Named(Params):
    """Parameters by name."""

    site: SiteName = "target"
    """Region of the parameters."""
    values: dict[str, str]
    """Name and the value each should have."""


class Values(Observation):
    """Values as they are; null where there is no such parameter."""

    values: dict[str, str | None]
    versions: dict[str, int]


async def read_parameter(ctx: Context, site: str, name: str) -> tuple[str | None, int]:
    """A parameter's value and version; None and 0 if there is none."""
    try:
        found = (await ctx.use(Aws).call(site, "ssm", "get_parameter", {"Name": name}))["Parameter"]
    except AwsError as error:
        if error.aws_code != "ParameterNotFound":
            raise
        return None, 0
    return str(found["Value"]), int(found["Version"])


async def write_parameter(ctx: Context, site: str, name: str, value: str) -> None:
    """Set a parameter, whatever it was."""
    request = {"Name": name, "Value": value, "Type": "String", "Overwrite": True}
    await ctx.use(Aws).call(site, "ssm", "put_parameter", request)


@probe("aws.ssm.values")
async def values(ctx: Context, p: Named) -> Values:
    """Read parameters."""
    found = {name: await read_parameter(ctx, p.site, name) for name in sorted(p.values)}
    return Values(
        values={name: value for name, (value, _) in found.items()},
        versions={name: version for name, (_, version) in found.items()},
    )


@action("aws.ssm.set", observe=values, repeat="safe", timeout_s=30)
async def set_values(ctx: Context, p: Named, before: Values) -> None:
    """Set parameters that have another value."""
    for name, value in p.values.items():
        if before.values.get(name) != value:
            await write_parameter(ctx, p.site, name, value)


@set_values.check
def are_set(p: Named, now: Values) -> bool:
    """Each has its value."""
    return all(now.values.get(name) == value for name, value in p.values.items())


@set_values.undo
def set_back(p: Named, before: Values, after: Values | None) -> Use | None:
    """The values that were there before; parameters that were not there stay."""
    former = {name: value for name, value in before.values.items() if value is not None}
    return set_values.use(p.but(values=former)) if former else None


def reading(paper: Paper, site: str, name: str) -> str:
    """The line that prints a parameter."""
    return paper.aws(site, "ssm get-parameter", name=name, query="Parameter.Value")


def writing(paper: Paper, site: str, name: str, value: str) -> str:
    """The line that sets a parameter, whatever it was."""
    return paper.aws(site, "ssm put-parameter", name=name, value=value, type="String", overwrite=True)


@values.by_hand
def look_at_values(p: Named, paper: Paper) -> str:
    """A line each."""
    return lines(reading(paper, p.site, name) for name in p.values)


@set_values.by_hand
def set_by_hand(p: Named, paper: Paper) -> str:
    """A line each."""
    return lines(writing(paper, p.site, name, value) for name, value in p.values.items())
