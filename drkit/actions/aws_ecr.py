"""ECR: the images of the live release are in this region, by digest, and the artifact they are made of is intact."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from drkit.catalog import probe
from drkit.context import Context
from drkit.errors import Unobservable
from drkit.model.observation import Observation
from drkit.model.paper import Paper, Raw, keep, lines, var
from drkit.model.params import Params, SiteName
from drkit.providers.aws import Aws, AwsError


class Release(Params):
    """Where the live release is written down."""

    site: SiteName = "target"
    """Region to look in."""
    parameter: str
    """SSM parameter with the release: `{"tag", "artifact", "sha256", "images": {REPOSITORY: DIGEST}}`."""
    bucket: str
    """Bucket that holds the artifact."""


class Image(Observation):
    """One image of the release."""

    repository: str
    digest: str
    present: bool


class Images(Observation):
    """The release in this region. `ok`: every image is there by digest, and the artifact has its digest."""

    ok: bool
    tag: str
    images: list[Image]
    artifact: str
    artifact_sha256: str | None
    """Digest of the artifact as it is in the bucket; null: it is not there."""
    sha256: str
    """Digest it should have."""


@probe("aws.ecr.release", plane="control")
async def release(ctx: Context, p: Release) -> Images:
    """Look for each image by digest, never by tag; compute the digests of what is really there."""
    aws = ctx.use(Aws)
    live = await live_release(ctx, p.site, p.parameter)
    images = [
        Image(repository=repository, digest=digest, present=await _present(aws, p.site, repository, digest))
        for repository, digest in sorted(live["images"].items())
    ]
    actual = await _artifact(aws, p, live["artifact"])
    return Images(
        ok=all(image.present for image in images) and actual == live["sha256"],
        tag=live["tag"],
        images=images,
        artifact=live["artifact"],
        artifact_sha256=actual,
        sha256=live["sha256"],
    )


async def live_release(ctx: Context, site: str, parameter: str) -> dict[str, Any]:
    """The live release as written down in a region. Unobservable if it is not; AwsError if AWS does not say."""
    try:
        answer = await ctx.use(Aws).call(site, "ssm", "get_parameter", {"Name": parameter})
        found: dict[str, Any] = json.loads(answer["Parameter"]["Value"])
    except (AwsError, ValueError) as error:
        if isinstance(error, AwsError) and error.aws_code != "ParameterNotFound":
            raise  # who was only turned away tries again by himself
        raise Unobservable(f"The live release is not written down in {site}: {error}") from error
    return found


async def _present(aws: Aws, site: str, repository: str, digest: str) -> bool:
    request = {"repositoryName": repository, "imageIds": [{"imageDigest": digest}]}
    try:
        found = await aws.call(site, "ecr", "batch_get_image", request)
    except AwsError:
        return False
    manifests = (image["imageManifest"].encode() for image in found.get("images", []))
    return any("sha256:" + hashlib.sha256(manifest).hexdigest() == digest for manifest in manifests)


async def _artifact(aws: Aws, p: Release, key: str) -> str | None:
    try:
        content = (await aws.call(p.site, "s3", "get_object", {"Bucket": p.bucket, "Key": key}))["Body"]
    except AwsError:
        return None
    return "sha256:" + hashlib.sha256(content).hexdigest()


@release.by_hand
def look_at_release(p: Release, paper: Paper) -> str:
    """The live release, its images by digest, and the digest of the artifact."""
    live = paper.aws(p.site, "ssm get-parameter", name=p.parameter, query="Parameter.Value")
    image = paper.aws(
        p.site, "ecr batch-get-image", repository_name=var("NAME"), image_ids=Raw('imageDigest="$DIGEST"'),
        query="images[].imageId.imageDigest",
    )  # fmt: skip
    each = "jq -r '.images | to_entries[] | \"\\(.key) \\(.value)\"'"
    get = paper.aws(p.site, "s3api get-object", bucket=p.bucket, key=var("ARTIFACT"), out="/dev/stdout", query="''")
    return lines(
        keep("LIVE", live),
        'echo "$LIVE"',
        "# every image must be printed with the digest that is written down",
        f'echo "$LIVE" | {each} | while read -r NAME DIGEST; do {image}; done',
        keep("ARTIFACT", 'echo "$LIVE" | jq -r .artifact'),
        "# the artifact's digest must be the release's sha256",
        get.replace(" /dev/stdout", ' "$HOME/drkit-artifact"') + " && sha256sum ~/drkit-artifact",
    )
