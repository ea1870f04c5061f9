"""S3: how much came over, and the application pointed at the bucket that is here."""

from __future__ import annotations

from datetime import datetime

from drkit.actions.aws_ssm import read_parameter, reading, write_parameter, writing
from drkit.actions.trying import tried
from drkit.catalog import action, probe
from drkit.context import Context
from drkit.model.observation import Observation, State
from drkit.model.paper import Paper, if_it_answers, lines
from drkit.model.params import Params, SiteName, Use
from drkit.providers.aws import Aws, AwsError


class Bucket(Params):
    """A replicated bucket and the parameter by which the application finds it."""

    site: SiteName = "target"
    """Region of the bucket that is to be used."""
    bucket: str
    """Its name."""
    source_bucket: str
    """Name of the bucket that it is replicated from."""
    parameter: str
    """SSM parameter from which the application takes the bucket's name."""
    objects_min: int = 1
    """Objects that must have come over: an empty copy is not one."""


class BucketState(Observation):
    """The bucket here, and what is missing of the source's if that still answers."""

    exists: bool
    versioned: bool = False
    objects: int = 0
    newest: str | None = None
    """When the newest object came, UTC."""
    used: str | None
    """Bucket that the application is pointed at."""
    source: str
    backlog: int | None = None
    """Objects of the source that are not here; null: the source does not say."""


@probe("aws.s3.state")
async def state(ctx: Context, p: Bucket) -> BucketState:
    """List the bucket, compare it with the source's for as long as that answers, read the parameter."""
    source, theirs = await tried(ctx, _objects(ctx, ctx.source, p.source_bucket))
    used, _ = await read_parameter(ctx, p.site, p.parameter)
    try:
        ours = await _objects(ctx, p.site, p.bucket)
    except AwsError as error:
        if error.aws_code not in ("NoSuchBucket", "404", "PermanentRedirect"):
            raise
        return BucketState(exists=False, used=used, source=source)
    versioning = await ctx.use(Aws).call(p.site, "s3", "get_bucket_versioning", {"Bucket": p.bucket})
    newest = max(ours.values(), default=None, key=lambda each: each[1])
    missing = None if theirs is None else sum(ours.get(key, ("", None))[0] != tag for key, (tag, _) in theirs.items())
    return BucketState(
        exists=True,
        versioned=versioning.get("Status") == "Enabled",
        objects=len(ours),
        newest=newest[1].isoformat() if newest else None,
        used=used,
        source=source,
        backlog=missing,
    )


async def _objects(ctx: Context, site: str, bucket: str) -> dict[str, tuple[str, datetime]]:
    listed = await ctx.use(Aws).pages(site, "s3", "list_objects_v2", "Contents", {"Bucket": bucket})
    return {each["Key"]: (each["ETag"], each["LastModified"]) for each in listed}


@action("aws.s3.point", observe=state, repeat="safe", timeout_s=30)
async def point(ctx: Context, p: Bucket, before: BucketState) -> None:
    """Point the application at the bucket of this region."""
    await write_parameter(ctx, p.site, p.parameter, p.bucket)


@point.check
def pointed(p: Bucket, now: BucketState) -> State:
    """The bucket is there, versioned, holds what came over, and is the one that the application uses."""
    if not now.exists or not now.versioned or now.objects < p.objects_min:
        return State.UNKNOWN
    return State.HOLDS if now.used == p.bucket else State.ABSENT


@point.undo
def point_back(p: Bucket, before: BucketState, after: BucketState | None) -> Use | None:
    """Left: the parameter of this region is read here only, and the source's bucket is not for it to use."""
    return None


@state.by_hand
def look_at_bucket(p: Bucket, paper: Paper) -> str:
    """Versioning, objects here and at the source, and the bucket that the application is pointed at."""
    count = "length(Contents)"
    return lines(
        paper.aws(p.site, "s3api get-bucket-versioning", bucket=p.bucket, query="Status"),
        f"# at least {p.objects_min} objects; the second number is the source's, if it answers",
        paper.aws(p.site, "s3api list-objects-v2", bucket=p.bucket, query=count),
        if_it_answers(paper.aws(paper.source, "s3api list-objects-v2", bucket=p.source_bucket, query=count)),
        "# the bucket that the application uses",
        reading(paper, p.site, p.parameter),
    )


@point.by_hand
def point_by_hand(p: Bucket, paper: Paper) -> str:
    """The parameter names this region's bucket."""
    return writing(paper, p.site, p.parameter, p.bucket)
