"""The environment that a world is for drkit: every address of a region lies behind a link that an outage cuts."""

from __future__ import annotations

import os
import pwd
from typing import Literal

from drkit.model.environment import (
    Address,
    Database,
    Dns,
    Environment,
    Host,
    Person,
    Prober,
    SecretRef,
    Service,
    Sink,
    Site,
    Witness,
)
from drkit.model.values import Json
from drkit.sandbox import schema
from drkit.sandbox.layout import (
    BACKUPS,
    DATABASE_NAME,
    ONPREM,
    OUTSIDE,
    REGIONS,
    SERVICE,
    SSH_USER,
    STATE_BUCKET,
    TARGET,
    TTL_S,
    WINDOW_S,
    ZONE,
    hosts,
)
from drkit.sandbox.links import Endpoint
from drkit.sandbox.worksite import Worksite

ACCOUNT = "123456789012"
PARAMETERS: dict[str, Json] = {"sustained": "1s", "hold": "5s", "watch": "2s"}
"""How long things must last here, where nobody's customers wait; plans and reports show them as shortened."""
_METADATA = "the sandbox's cloud keeps this as metadata only: "
_SHAPES = "checked against recorded shapes only: "
SIMULATED = {
    "aws.network.open": _METADATA + "no packet takes these routes",
    "aws.kms.grant": _METADATA + "a grant keeps nobody out (encryption is real)",
    "aws.ec2.launch-template": _METADATA + "no instance boots",
    "aws.ec2.restore-volume": _METADATA + "a volume holds no bytes",
    "aws.elasticache.create": _METADATA + "there is no cache server",
    "aws.autoscaling.scale": _METADATA + "instances are counted, none boots",
    "aws.elb.open": _METADATA + "web ACL and target health; users go through the region's edge",
    "aws.security.guard": _METADATA + "web ACL, audit trail and threat detection watch nothing",
    "aws.iam.identities": _METADATA + "roles keep nobody out",
    "aws.instance-stop": _METADATA + "instances are counted, none boots",
    "aws.security-group-cut": _METADATA + "no packet meets a security group",
    "aws.subnet-isolate": _METADATA + "no packet meets a network ACL",
    "aws.zone-isolate": _METADATA + "no packet meets a network ACL",
    "aws.health-check-invert": _METADATA + "DNS follows routing controls, not health checks",
    "aws.key-disable": _METADATA + "a disabled key goes on encrypting and decrypting",
    "aws.replication-pause": _METADATA + "objects are copied by the sandbox's own replicator",
    "aws.iam-deny": _SHAPES + "the sandbox's cloud keeps policies and asks nobody for rights",
    "aws.bucket-deny": _SHAPES + "the sandbox's cloud knows no condition of a policy",
    "aws.database-reboot": _SHAPES + "no database of RDS runs here to be restarted",
    "aws.lambda-exhaust": _SHAPES + "the sandbox's cloud has no quota of concurrency",
    "aws.experiment": _SHAPES + "experiments are written down and carried out by nobody",
    "aws.database-failover": _METADATA + "the writer's name moves, there is no data",
    "vpn.prefer": "no BGP session is real; the connections tried from on-prem are",
}
"""Actions whose subject no part of the sandbox makes real; counted in the verdict's line."""
Kind = Literal["slack", "pagerduty", "statuspage", "mail", "webhook"]
Audience = Literal["responders", "stakeholders", "customers", "regulator", "drill"]


def environment_of(world: Worksite) -> Environment:
    """Put together what the parts announced."""
    resolver, authority = world.ready["names"]["resolver"], world.ready["names"]["authority"]
    witness = world.endpoint("witness")
    return Environment(
        name="sandbox",
        kind="sandbox",
        account=ACCOUNT,
        sites=(
            *(_region(world, region) for region in REGIONS),
            Site(name=ONPREM, kind="on-prem"),
            Site(name=OUTSIDE, kind="outside", routing_endpoint=world.ready["routing"]["endpoints"][OUTSIDE]["url"]),
        ),
        databases=tuple(database_of(world, region) for region in REGIONS),
        hosts=tuple(_host(world, site, name) for site in (*REGIONS, ONPREM) for name in hosts(site)),
        dns=Dns(
            zone=ZONE,
            authorities=(Address(host=authority["address"], port=authority["port"]),),
            resolvers=(Address(host=resolver["address"], port=resolver["port"]),),
            ttl_s=TTL_S,
        ),
        service=Service(hostname=SERVICE, port=world.routes[f"users-{TARGET}"].port),
        witness=Witness(
            name="witness",
            site=ONPREM,
            url=witness.url,
            term_s=world.settings.term_s,
            margin_s=world.settings.margin_s,
        ),
        prober=Prober(folder=str(world.folders.readings), window_s=WINDOW_S),
        state_store=f"s3://{STATE_BUCKET}/sandbox",
        state_store_site=TARGET,
        people=(_operator(),),
        sinks=_sinks(world),
        runbook="reliabletech",
        rto=60.0,
        rpo=5.0,
        parameters=PARAMETERS,
        simulated=SIMULATED,
        control=world.control,
    )


def _region(world: Worksite, region: str) -> Site:
    return Site(
        name=region,
        kind="region",
        aws_endpoint=world.ready["aws"]["regions"][region]["url"],
        edge=_address(world.routes[f"users-{region}"]),
        edge_admin=world.routes[f"admin-{region}-edge"].url,
        routing_endpoint=world.ready["routing"]["endpoints"][region]["url"],
    )


def database_of(world: Worksite, region: str) -> Database:
    """A region's side of the pair: reached over its admin link, which an outage cuts."""
    return Database(
        name=DATABASE_NAME,
        site=region,
        address=_address(world.routes[f"admin-{region}-database"]),
        dbname=schema.DATABASE,
        user="drkit_admin",
        password=SecretRef(ref=f"secret://file/{world.folders.secret('drkit_admin')}"),
        system_identifier=world.ready[f"agent-{region}"]["system_identifier"],
        agent=world.routes[f"admin-{region}-agent"].url,
        reached_from={ONPREM: _address(world.routes[f"onprem-{region}-database"])},
    )


def _host(world: Worksite, site: str, name: str) -> Host:
    ready = world.ready[name]
    return Host(
        name=name,
        site=site,
        address=_address(world.routes[f"ssh-{name}"]),
        user=SSH_USER,
        key=SecretRef(ref=f"secret://file/{world.folders.secret('operator_key')}"),
        known_host=ready["public_key"],
        machine_id=ready["machine_id"],
        roles=("batch",) if site == ONPREM else ("app", "worker"),
        copies=(BACKUPS,) if site == ONPREM else (),
    )


def _operator() -> Person:
    """Whoever runs the sandbox: one person, so nothing that asks for two can be answered by them alone."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid-{os.getuid()}"
    return Person(name=name, uid=os.getuid(), roles=("incident-commander", "database-owner"))


def _sinks(world: Worksite) -> tuple[Sink, ...]:
    """Recorders: nothing that is sent to them leaves the machine."""
    base, smtp = world.ready["sinks"]["http"]["url"], world.ready["sinks"]["smtp"]["url"]
    receipts = f"{world.ready['sinks']['admin']['url']}/messages"

    def sink(name: str, kind: Kind, url: str, audience: Audience) -> Sink:
        return Sink(name=name, kind=kind, url=url, audience=audience, real=False, receipts=receipts)

    return (
        sink("slack", "slack", f"{base}/slack/dr-drills", "responders"),
        sink("pagerduty", "pagerduty", f"{base}/pagerduty", "responders"),
        sink("statuspage", "statuspage", f"{base}/statuspage/v1/pages/reliabletech", "customers"),
        sink("mail", "mail", smtp, "stakeholders"),
        sink("regulator", "webhook", f"{base}/webhook/regulator", "regulator"),
    )


def _address(where: Endpoint) -> Address:
    return Address(host=where.host, port=where.port)
