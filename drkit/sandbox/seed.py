"""What ReliableTech has in both regions, made through the gateways: the source in production, the target asleep.

`seed(config)` in this process, or `python -m drkit.sandbox.seed CONFIG.json`, whose ready line is the result.
Config: `{"gateways": {REGION: URL}, "source": REGION, "target": REGION, "edges": {REGION: {"host", "port"}},
"databases": {REGION: {"host", "port"}}, "database": {"name", "user", "password"}, "release": FILE, "zone"?, "ttl_s"?,
"sinks_url"?, "state_bucket"?}`. `release` is the order application's file: its bytes are the live release.

Names carry the prefix `reliabletech` (`P` below) and are the same in both regions unless one is written. Ids differ
from world to world: look things up by name or by tag `Name`. Each line: step, service, name: state in the *target*
before a failover -> after recovery ("same": the step only has to see it).

 5      STS          role `P-break-glass`, assumed at the target's STS: possible -> same
 6      Quotas       `vpc` codes such as `L-F678F1CE` at Service Quotas: default values -> same
 6      SSM          `/P/quotas/SERVICE/CODE` = `{"name", "value", "needed"}`, as moto knows `vpc` only: enough -> same
 7      replicator   its `/backlog` is the replication position of S3 and DynamoDB: near 0 -> recorded
 13     EC2          VPC `P-vpc`, subnets and route tables `P-public[-a..c]`, `P-private[-a..c]`: complete -> same
 13     EC2          NAT `P-nat` and the default route of route table `P-private`: ABSENT -> present
 13     EC2          groups `P-alb`, `P-app`, `P-db`; 8080 from `P-alb` into `P-app`: rule ABSENT -> rule present
 13     CloudForm.   `cloudformation/network.json` in the artifacts bucket makes NAT and route from the parameters
                     `PublicSubnet`, `PrivateRouteTable`: no stack -> stack `P-network` CREATE_COMPLETE
 14     SSM          `/P/vpn/preferred`, a preference only, no tunnel is real: source's name -> target's name
 15     KMS          `alias/P-data`, a key per region: enabled, NO GRANT -> grant for role `P-app`, decrypts what it
                     encrypted
 16     Secrets      `P/orders/db`, `P/payments`; equal values have equal version ids in both regions, and the tag
                     `drkit:value-digest`: tag `drkit:role` is REPLICA -> primary
 17     ACM          certificate for `ZONE`, `*.ZONE`, `shop.ZONE`, a real one, valid for a year: ISSUED -> same
 18     ECR          `P/order-app`, `P/worker`, tag `2026.11.2`; the digest is that of the manifest, whose layer is the
                     release: present -> same
 18,32  SSM          `/P/release/live` = `{"tag", "artifact", "sha256", "images": {REPOSITORY: DIGEST}}`: there -> same
 18,32  S3           `P-artifacts-REGION`, key `releases/2026.11.2/order_app.py`, metadata `sha256`: there -> same
 19     EC2          images `P-web-2026.09`, `P-web-2026.11`; current: `/P/ami/web` = `{"name", "image"}`: there -> same
 19     EC2          launch template `P-web`, version 1 old image, 2 current one: default version 1 -> 2
 20     IAM          roles `P-app`, `P-worker`, `P-deploy`, `P-break-glass`, OIDC provider `oidc.ZONE`: there -> same
 25     DynamoDB     `P-sessions`, key `id` (S), copied by the replicator: ACTIVE, the source's items -> and a canary
 26     S3           `P-uploads-REGION`, copied by the replicator: the source's objects -> backlog known
 26     SSM          `/P/app/bucket`: the SOURCE's uploads bucket -> the target's
 27     ElastiCache  replication group `P-cache`: ABSENT (available in the source) -> available
 28     SQS          `P-orders`, `P-orders-dlq`: NO RedrivePolicy, 4 and 2 messages wait -> RedrivePolicy to the DLQ
 28     SQS          `P-emails`, `P-emails-dlq`: complete, 3 messages wait -> same
 29     EC2          snapshot `P-files`, 20 GiB: NO VOLUME -> volume `P-files` made from it, available
 29     EFS, Backup  file system `P-files`, vault `P`: available -> same
 33     AutoScaling  group `P-web` of template `P-web` at `$Default`, at most 24: desired 0 (source 6) -> 6 InService
 34     ELBv2        balancer `P-web`, target group `P-web`, HTTPS listener: answers 503, no targets -> forwards to 6
                     healthy ones
 34     WAFv2        web ACL `P-web`, REGIONAL: NOT ASSOCIATED with the balancer -> associated
 39     CloudTrail, GuardDuty   trail `P`, the detector: logging, enabled -> same
 40     CloudWatch   alarms `P-5xx`, `P-latency`, `P-unhealthy`: actions DISABLED -> enabled
 40     SNS          topic `P-pages`, subscribed by the sinks' `/webhook/sns-REGION`: there -> a test page arrived
 42     Route 53     `shop`: weighted aliases to `cell-10|40|50.shop`, each with a side per region whose set identifier
                     is its routing control; `shop-REGION`, `db-REGION`, `db`: never changed, traffic moves by control
 44     SSM          `/P/workers/enabled`: FALSE -> true
 45     Events       rule `P-nightly-settlement`: DISABLED -> ENABLED
 -      SSM          `/P/app/active-region`, `/P/app/db-endpoint` (`host:port`): the SOURCE's -> the target's
 -      S3           `P-drkit-state`, in the target only, versioned: drkit's state store

Real: bytes and conditional writes in S3, items, messages, parameters, secrets, certificates, KMS encryption, digests,
SNS to HTTP. Metadata only: EC2, Auto Scaling (instances never boot, health is static), ELBv2, WAF, ElastiCache, EFS,
Backup, CloudTrail, GuardDuty, quotas, alarms (never evaluated).
Left out, because moto has no backend or answers without effect: RDS (the real PostgreSQL pair stands for it), EKS
(services start on hosts), multi-region KMS keys (decrypt is refused), Secrets Manager replicas (cannot be promoted: two
secrets with one version id instead), DynamoDB global tables and S3 replication (the replicator part instead), ARC (the
routing part instead), backup jobs and recovery points, DLQ redrive tasks (`StartMessageMoveTask`), `TemplateURL` (send
the body), listing what a web ACL protects (ask by resource), Health, event source mappings, Direct Connect and VPN.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from drkit.sandbox import seed_compute, seed_data, seed_guard, seed_network
from drkit.sandbox.parts import announce, die_with_parent, load_config
from drkit.sandbox.seed_base import Clients, World


def seed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Create everything in the table above, in both regions at once; what was made, as JSON.

    Any botocore error is raised as it is: a half-seeded world is not a world.
    """
    world = World.of(config)
    clients = Clients(world.gateways)
    with ThreadPoolExecutor(max_workers=6, thread_name_prefix="seed") as pool:
        everywhere = {
            "roles": pool.submit(seed_guard.roles, clients, world),
            "names": pool.submit(seed_network.names, clients, world),
        }
        regions = {region: _region(pool, clients, world, region) for region in world.regions}
        made: dict[str, Any] = {name: future.result() for name, future in everywhere.items()}
        made["regions"] = {
            region: {name: future.result() for name, future in futures.items()} for region, futures in regions.items()
        }
    return made


def _region(pool: ThreadPoolExecutor, clients: Clients, world: World, region: str) -> dict[str, Future[Any]]:
    def submit(work: Callable[..., Any], *more: Any) -> Future[Any]:
        return pool.submit(work, clients, world, region, *more)

    return {
        "compute": submit(_compute),
        "buckets": submit(_buckets_and_watch),
        "tables": submit(seed_data.tables),
        "queues": submit(seed_data.queues),
        "keys": submit(seed_data.keys),
        "secrets": submit(seed_data.secrets),
        "containers": submit(seed_compute.containers),
        "files": pool.submit(seed_compute.files, clients, region),
        **({"cache": pool.submit(seed_compute.cache, clients, region)} if region == world.source else {}),
    }


def _compute(clients: Clients, world: World, region: str) -> dict[str, Any]:
    """What needs the network, in order."""
    certificate = seed_network.certificate(clients, world, region)
    net = seed_network.network(clients, world, region)
    machines = seed_compute.machines(clients, world, region, net)
    front = seed_network.balancer(clients, world, region, net, certificate)
    if region == world.source:
        seed_compute.attach(clients, region, front["target_group"])
    parameters = seed_data.parameters(clients, world, region, machines["images"])
    return {"certificate": certificate, **net, **machines, **front, "parameters": sorted(parameters)}


def _buckets_and_watch(clients: Clients, world: World, region: str) -> dict[str, Any]:
    """The audit trail needs its bucket."""
    buckets = seed_data.buckets(clients, world, region)
    return {**buckets, **seed_guard.watch(clients, world, region)}


def main() -> None:
    """`python -m drkit.sandbox.seed CONFIG.json`: seed, and announce what was made."""
    die_with_parent()
    gc.disable()  # a short life: loading the models of twenty services takes a quarter less
    announce(**seed(load_config()))


if __name__ == "__main__":
    main()
