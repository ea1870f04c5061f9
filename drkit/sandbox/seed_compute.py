"""Machines: images, launch templates, the web tier's auto scaling group, volumes, file system, container images, cache.

The target runs nothing: its group is at zero, its launch template still starts the previous image by default, its
volumes are snapshots, and it has no cache.
"""

from __future__ import annotations

import json
from typing import Any

from drkit.sandbox.seed_base import (
    AMI_NAME,
    OLD_AMI_NAME,
    PREFIX,
    PRODUCTION_SIZE,
    RELEASE_TAG,
    TAGS,
    Clients,
    World,
    sha256,
    spec,
)


def machines(clients: Clients, world: World, region: str, net: dict[str, Any]) -> dict[str, Any]:
    """Images, launch template with two versions, auto scaling group, snapshot (and, in the source, its volume)."""
    ec2, scaling = clients(region, "ec2"), clients(region, "autoscaling")
    images = {name: _image(ec2, name) for name in (OLD_AMI_NAME, AMI_NAME)}
    template = _launch_template(ec2, images, net["security_groups"]["app"])
    if region == world.source:
        ec2.modify_launch_template(LaunchTemplateName=f"{PREFIX}-web", DefaultVersion="2")
    size = PRODUCTION_SIZE if region == world.source else 0
    scaling.create_auto_scaling_group(
        AutoScalingGroupName=f"{PREFIX}-web",
        LaunchTemplate={"LaunchTemplateName": f"{PREFIX}-web", "Version": "$Default"},
        MinSize=0,
        MaxSize=4 * PRODUCTION_SIZE,
        DesiredCapacity=size,
        VPCZoneIdentifier=",".join(each for name, each in net["subnets"].items() if name.startswith("private")),
        Tags=[{**tag, "PropagateAtLaunch": True} for tag in TAGS],
    )
    volume = ec2.create_volume(
        AvailabilityZone=f"{region}a", Size=20, TagSpecifications=spec("volume", f"{PREFIX}-files")
    )["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume, TagSpecifications=spec("snapshot", f"{PREFIX}-files"))["SnapshotId"]
    if region == world.target:
        ec2.delete_volume(VolumeId=volume)
    return {"images": images, "launch_template": template, "snapshot": snapshot}


def _image(ec2: Any, name: str) -> str:
    made = ec2.register_image(Name=name, Architecture="x86_64", RootDeviceName="/dev/xvda", VirtualizationType="hvm")
    return str(made["ImageId"])


def _launch_template(ec2: Any, images: dict[str, str], group: str) -> str:
    data = {"InstanceType": "m7g.large", "SecurityGroupIds": [group]}
    name = f"{PREFIX}-web"
    made = ec2.create_launch_template(
        LaunchTemplateName=name,
        LaunchTemplateData={**data, "ImageId": images[OLD_AMI_NAME]},
        TagSpecifications=spec("launch-template", name),
    )
    ec2.create_launch_template_version(
        LaunchTemplateName=name, LaunchTemplateData={**data, "ImageId": images[AMI_NAME]}
    )
    return str(made["LaunchTemplate"]["LaunchTemplateId"])


def attach(clients: Clients, region: str, group: str) -> None:
    """Register the web tier's instances with the load balancer."""
    found = clients(region, "autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[f"{PREFIX}-web"])
    instances = [{"Id": each["InstanceId"]} for each in found["AutoScalingGroups"][0]["Instances"]]
    clients(region, "elbv2").register_targets(TargetGroupArn=group, Targets=instances)


def containers(clients: Clients, world: World, region: str) -> dict[str, str]:
    """Repositories with the live release; image digest by repository. The layer's digest is the real file's."""
    ecr = clients(region, "ecr")
    digests: dict[str, str] = {}
    for part in ("order-app", "worker"):
        repository = f"{PREFIX}/{part}"
        ecr.create_repository(repositoryName=repository, imageTagMutability="IMMUTABLE", tags=TAGS)
        content = manifest(world.release, part)
        digests[repository] = sha256(content.encode())
        # moto would make up a digest from the layers'; a registry's is that of the manifest.
        ecr.put_image(
            repositoryName=repository, imageManifest=content, imageTag=RELEASE_TAG, imageDigest=digests[repository]
        )
    return digests


def manifest(release: bytes, part: str) -> str:
    """The image manifest of one part of the release, byte for byte the same in every region."""
    media = "application/vnd.oci.image"
    config = json.dumps({"part": part, "release": RELEASE_TAG}).encode()
    layer = {"mediaType": f"{media}.layer.v1.tar", "size": len(release), "digest": sha256(release)}
    content = {
        "schemaVersion": 2,
        "mediaType": f"{media}.manifest.v1+json",
        "config": {"mediaType": f"{media}.config.v1+json", "size": len(config), "digest": sha256(config)},
        "layers": [layer],
    }
    return json.dumps(content, sort_keys=True)


def files(clients: Clients, region: str) -> dict[str, str]:
    """An EFS file system and a backup vault."""
    made = clients(region, "efs").create_file_system(
        CreationToken=f"{PREFIX}-files", Encrypted=True, Tags=[*TAGS, {"Key": "Name", "Value": f"{PREFIX}-files"}]
    )
    clients(region, "backup").create_backup_vault(BackupVaultName=PREFIX)
    return {"file_system": made["FileSystemId"], "backup_vault": PREFIX}


def cache(clients: Clients, region: str) -> dict[str, str]:
    """The session cache's replication group; made in the source only."""
    clients(region, "elasticache").create_replication_group(
        ReplicationGroupId=f"{PREFIX}-cache",
        ReplicationGroupDescription="sessions and baskets",
        Engine="redis",
        CacheNodeType="cache.t4g.small",
        NumCacheClusters=2,
        AutomaticFailoverEnabled=True,
    )
    return {"replication_group": f"{PREFIX}-cache"}
