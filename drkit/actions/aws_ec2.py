"""EC2: the launch template starts the current image; volumes come back from the newest snapshot."""

from __future__ import annotations

import json
from typing import Any

from drkit.actions.aws_ssm import read_parameter
from drkit.catalog import action, probe
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.observation import Observation, State
from drkit.model.paper import Paper, keep, lines, var
from drkit.model.params import Params, SiteName, Use
from drkit.providers.aws import Aws, AwsError


class Template(Params):
    """A launch template and the parameter that names the current image."""

    site: SiteName = "target"
    """Region of the template."""
    template: str
    """Name of the launch template."""
    current: str
    """SSM parameter with the current image, `{"name", "image"}`."""


class TemplateState(Observation):
    """What the template's default version starts, and what it should start."""

    default_version: int | None
    default_image: str | None
    current_image: str
    current_available: bool
    """The image is there, available, and has the name that is written down."""
    current_version: int | None
    """Newest version that starts the current image; null: none does."""


@probe("aws.ec2.launch-template.state", plane="control")
async def template_state(ctx: Context, p: Template) -> TemplateState:
    """Read the template's versions, and look for the image itself."""
    aws = ctx.use(Aws)
    written, _ = await read_parameter(ctx, p.site, p.current)
    if written is None:
        raise Unobservable(f"There is no parameter {p.current} in {p.site}.")
    current = json.loads(written)
    versions = await _versions(aws, p)
    default = next((version for version in versions if version["DefaultVersion"]), None)
    fitting = [v["VersionNumber"] for v in versions if v["LaunchTemplateData"].get("ImageId") == current["image"]]
    return TemplateState(
        default_version=default["VersionNumber"] if default else None,
        default_image=default["LaunchTemplateData"].get("ImageId") if default else None,
        current_image=current["image"],
        current_available=await _available(aws, p.site, current),
        current_version=max(fitting, default=None),
        answered_by=versions[0]["LaunchTemplateId"] if versions else None,
    )


async def _versions(aws: Aws, p: Template) -> list[dict[str, Any]]:
    try:
        found = await aws.call(p.site, "ec2", "describe_launch_template_versions", {"LaunchTemplateName": p.template})
    except AwsError as error:
        if "NotFound" not in error.aws_code:
            raise
        return []
    versions: list[dict[str, Any]] = found["LaunchTemplateVersions"]
    return versions


async def _available(aws: Aws, site: str, current: dict[str, str]) -> bool:
    try:
        images = (await aws.call(site, "ec2", "describe_images", {"ImageIds": [current["image"]]}))["Images"]
    except AwsError as error:
        if "InvalidAMIID" not in error.aws_code:
            raise
        return False
    return any(image["State"] == "available" and image["Name"] == current["name"] for image in images)


@action("aws.ec2.launch-template", observe=template_state, repeat="safe", plane="control", timeout_s=60)
async def use_current(ctx: Context, p: Template, before: TemplateState) -> None:
    """Make the version that starts the current image the default one."""
    if before.current_version is None or not before.current_available:
        raise Unobservable(f"No version of {p.template} starts {before.current_image}, or it is not available.")
    request = {"LaunchTemplateName": p.template, "DefaultVersion": str(before.current_version)}
    await ctx.use(Aws).call(p.site, "ec2", "modify_launch_template", request)


@use_current.check
def current(p: Template, now: TemplateState) -> State:
    """The default version starts the current image, and that image is there."""
    if not now.current_available or now.current_version is None:
        return State.UNKNOWN  # making it the default would start nothing
    return State.HOLDS if now.default_image == now.current_image else State.ABSENT


@use_current.undo
def left_current(p: Template, before: TemplateState, after: TemplateState | None) -> Use | None:
    """Left: the current image is the one to start, whichever side serves."""
    return None


class Volume(Params):
    """A volume that comes from a snapshot."""

    site: SiteName = "target"
    """Region of snapshot and volume."""
    name: str
    """`Name` tag of the snapshots, and of the volume made of the newest."""
    zone: str = "a"
    """Letter of the availability zone in which the volume is needed."""
    max_age_h: float = 26.0
    """The newest completed snapshot must not be older, in hours."""
    file_system: str = ""
    """Name of an EFS file system that must be available too; empty: none."""


class VolumeState(Observation):
    """The newest completed snapshot, and the volume made of it."""

    snapshot: str | None
    snapshot_age_h: float | None
    volume: str | None
    volume_state: str | None
    file_system: str | None = None
    """State of the file system; null: there is none of that name."""


@probe("aws.ec2.volume.state", plane="control")
async def volume_state(ctx: Context, p: Volume) -> VolumeState:
    """Look for the newest completed snapshot, and for a volume of that name made of it."""
    aws = ctx.use(Aws)
    named = [{"Name": "tag:Name", "Values": [p.name]}]
    request = {"Filters": named, "OwnerIds": ["self"]}
    snapshots = (await aws.call(p.site, "ec2", "describe_snapshots", request))["Snapshots"]
    done = sorted((s for s in snapshots if s["State"] == "completed"), key=lambda s: s["StartTime"])
    newest = done[-1] if done else None
    volumes = (await aws.call(p.site, "ec2", "describe_volumes", {"Filters": named}))["Volumes"]
    made = [v for v in volumes if newest and v.get("SnapshotId") == newest["SnapshotId"]]
    age_h = (ctx.clock.wall() - newest["StartTime"].timestamp()) / 3600 if newest else None
    return VolumeState(
        snapshot=newest["SnapshotId"] if newest else None,
        snapshot_age_h=round(age_h, 3) if age_h is not None else None,
        volume=made[0]["VolumeId"] if made else None,
        volume_state=made[0]["State"] if made else None,
        file_system=await _file_system(aws, p) if p.file_system else None,
    )


async def _file_system(aws: Aws, p: Volume) -> str | None:
    found = (await aws.call(p.site, "efs", "describe_file_systems"))["FileSystems"]
    return next((each["LifeCycleState"] for each in found if each.get("Name") == p.file_system), None)


@action("aws.ec2.restore-volume", observe=volume_state, repeat="token", plane="control", timeout_s=120, settle_s=2)
async def restore_volume(ctx: Context, p: Volume, before: VolumeState) -> None:
    """Make a volume of the newest completed snapshot."""
    if before.snapshot is None:
        raise Unobservable(f"There is no completed snapshot called {p.name} in {p.site}.")
    tags = [{"Key": "Name", "Value": p.name}, {"Key": "drkit:token", "Value": ctx.token}]
    request = {
        "SnapshotId": before.snapshot,
        "AvailabilityZone": f"{p.site}{p.zone}",
        "ClientToken": ctx.token[:64],
        "TagSpecifications": [{"ResourceType": "volume", "Tags": tags}],
    }
    await ctx.use(Aws).call(p.site, "ec2", "create_volume", request)


@restore_volume.check
def restored(p: Volume, now: VolumeState) -> State:
    """Made of the newest snapshot, which is young enough, and available; and so is the file system."""
    if now.snapshot is None or now.snapshot_age_h is None or now.snapshot_age_h > p.max_age_h:
        return State.UNKNOWN
    if p.file_system and now.file_system != "available":
        return State.UNKNOWN
    if now.volume is None:
        return State.ABSENT
    return State.HOLDS if now.volume_state in ("available", "in-use") else State.IN_PROGRESS


@restore_volume.undo
def left_restored(p: Volume, before: VolumeState, after: VolumeState | None) -> Use | None:
    """Left: a volume may have been written to as soon as it was there; failback's list names it."""
    return None


def _current_image(p: Template, paper: Paper) -> str:
    written = paper.aws(p.site, "ssm get-parameter", name=p.current, query="Parameter.Value")
    return keep("IMAGE", f"{written} | jq -r .image")


_VERSION = "LaunchTemplateVersions[].[VersionNumber,DefaultVersion,LaunchTemplateData.ImageId]"


@template_state.by_hand
def look_at_template(p: Template, paper: Paper) -> str:
    """The image that is written down, whether it is there, and what each version starts."""
    call = "ec2 describe-launch-template-versions"
    return lines(
        _current_image(p, paper),
        paper.aws(p.site, "ec2 describe-images", image_ids=var("IMAGE"), query="Images[].[ImageId,State,Name]"),
        "# number, default or not, image",
        paper.aws(p.site, call, launch_template_name=p.template, query=_VERSION),
    )


@use_current.by_hand
def use_current_by_hand(p: Template, paper: Paper) -> str:
    """The newest version that starts the current image becomes the default."""
    call = "ec2 describe-launch-template-versions"
    listed = paper.aws(p.site, call, launch_template_name=p.template, query=_VERSION)
    newest = listed + " | awk -v image=\"$IMAGE\" '$3 == image {print $1}' | sort -n | tail -1"
    change = "ec2 modify-launch-template"
    return lines(
        _current_image(p, paper),
        keep("VERSION", newest),
        paper.aws(p.site, change, launch_template_name=p.template, default_version=var("VERSION")),
    )


def _newest_snapshot(p: Volume, paper: Paper) -> str:
    named = [f"Name=tag:Name,Values={p.name}", "Name=status,Values=completed"]
    query = "sort_by(Snapshots,&StartTime)[-1].SnapshotId"
    return paper.aws(p.site, "ec2 describe-snapshots", owner_ids="self", filters=named, query=query)


@volume_state.by_hand
def look_at_volume(p: Volume, paper: Paper) -> str:
    """The newest completed snapshot with its time, volumes of that name, and the file system."""
    named = [f"Name=tag:Name,Values={p.name}"]
    shown = "sort_by(Snapshots,&StartTime)[].[SnapshotId,State,StartTime]"
    systems = paper.aws(p.site, "efs describe-file-systems", query="FileSystems[].[Name,LifeCycleState]")
    return lines(
        f"# the newest completed snapshot (last line) must not be older than {p.max_age_h:g} h",
        paper.aws(p.site, "ec2 describe-snapshots", owner_ids="self", filters=named, query=shown),
        paper.aws(p.site, "ec2 describe-volumes", filters=named, query="Volumes[].[VolumeId,State,SnapshotId]"),
        [systems] if p.file_system else [],
    )


@restore_volume.by_hand
def restore_by_hand(p: Volume, paper: Paper) -> str:
    """A volume from the newest snapshot. Sent twice it makes two: look before it is done again."""
    tags: list[dict[str, object]] = [{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": p.name}]}]
    make = paper.aws(
        p.site, "ec2 create-volume", snapshot_id=var("SNAPSHOT"),
        availability_zone=f"{paper.site(p.site).name}{p.zone}", tag_specifications=tags,
    )  # fmt: skip
    return lines("# do this once: sent twice it makes two", keep("SNAPSHOT", _newest_snapshot(p, paper)), make)
