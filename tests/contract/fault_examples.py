"""One use of every fault, and look-alikes of its effect: what could be taken for a fault and is none, or for its heal.

A heal is done when its fault is seen to be gone, so the same table serves both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from drkit.catalog import Catalog
from drkit.chaos.faults._acl import Acl, barring
from drkit.chaos.faults._policy import deny
from drkit.model.faults import fault_key


@dataclass(frozen=True)
class Example:
    """A fault, what is seen while it is injected, and what is seen of targets that are not, or not quite."""

    params: dict[str, Any]
    injected: dict[str, Any]
    healed: dict[str, Any]
    neither: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Observations in which it is neither injected nor healed, by what they are."""


def key_of(fault: str) -> str:
    """Name at its target of the fault as it is used below."""
    entry = Catalog().entry(fault)
    return fault_key(fault, entry.params.model_validate_json(json.dumps(USED[fault])))


def kept(fault: str, **more: int) -> dict[str, Any]:
    """Seen: this fault keeps something running."""
    key = key_of(fault) if fault in USED else "host-other-0123456789ab"
    return {"kept": [{"key": key, **more}]}


def table(fault: str, members: int) -> dict[str, Any]:
    """Seen: this fault has so many members in the packet filter."""
    return {"tables": [{"key": key_of(fault), "members": members}]}


def shaper(fault: str) -> str:
    """Handle of this fault's queue."""
    return f"d{key_of(fault)[-3:]}:"


def data(fault: str) -> Example:
    """A fault that spoils or sets aside a file."""

    def seen(key: str, state: str) -> dict[str, Any]:
        return {"files": [{"key": key, "file": "/srv/copies/x", "state": state}]}

    key = key_of(fault)
    return Example(
        USED[fault], injected=seen(key, "spoilt"), healed=seen("data-other-0123456789ab", "spoilt"),
        neither={"somebody wrote it anew, and what was there is still set aside": seen(key, "unclear")},
    )  # fmt: skip


def filtered(fault: str) -> Example:
    """A fault of two peers or ports."""
    return Example(
        USED[fault], injected=table(fault, 2), healed=table(fault, 0),
        neither={"one of the two was let go": table(fault, 1)},
    )  # fmt: skip


def acl(fault: str, params: dict[str, Any], rules: int = 4) -> dict[str, Any]:
    """A network ACL with the first of the rules by which this fault denies everything."""
    entry = Catalog().entry(fault)
    shut = barring(Acl(id="acl-1"), fault_key(fault, entry.params.model_validate(params)))
    made = [{key: value for key, value in call.input.items() if key != "NetworkAclId"} for call, _ in shut]
    return {"id": "acl-1", "rules": made[:rules]}


def dated(fault: str, year: int) -> dict[str, Any]:
    """A statement of this fault that denies until that year."""
    made: dict[str, Any] = dict(deny(key_of(fault), ["s3:GetObject"], datetime(year, 1, 1), Principal="*"))
    return made


def one_policy(year: int) -> dict[str, Any]:
    """A policy that denies until that year."""
    return {"Version": "2012-10-17", "Statement": [dated("aws.iam-deny", year)]}


OWN = {"Sid": "TheirOwn", "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"}
ASKED = {"asked_by": "arn:aws:iam::1:role/drkit", "at": "2026-11-23T08:00:00Z"}


def status(now: str, restarted_at: str | None) -> dict[str, Any]:
    """A database instance at eight o'clock."""
    return {"status": now, "restarted_at": restarted_at, "at": "2026-11-23T08:00:00Z"}


def running(*states: str) -> dict[str, Any]:
    """A template of FIS with experiments of ours, and one of another template."""
    key = {"key": key_of("aws.experiment"), "step": "inject"}
    ours = [{"id": f"EXP{n}", "status": one, **key} for n, one in enumerate(states)]
    other = {"id": "EXP9", "status": "running", "key": "other", "step": "inject"}
    return {"stop_conditions": ["alarm"], "endless": [], "lasts_s": 60.0, "experiments": [*ours, other]}


def copied(**rules: str) -> dict[str, Any]:
    """How a bucket is replicated, by rules and their status."""
    made = [{"ID": name, "Status": status} for name, status in rules.items()]
    return {"configuration": {"Role": "r", "Rules": made}}


ISOLATE: dict[str, Any] = {"site": "west", "subnet": "subnet-1"}
ZONE: dict[str, Any] = {"site": "west", "zone": "us-west-2a"}
PEERS = ["10.0.0.5", "10.2.0.0/16"]
#: Parameters of the faults that are known at their target by what was asked for.
USED: dict[str, dict[str, Any]] = {
    "aws.api-latency": {"site": "west", "service": "ec2", "operation": "Describe*", "delay_s": 0.5},
    "aws.api-throttle": {"site": "west", "service": "s3", "percent": 50},
    "aws.bucket-deny": {"site": "west", "bucket": "orders", "actions": ["s3:GetObject"]},
    "aws.experiment": {"site": "west", "template": "EXT1"},
    "aws.iam-deny": {"site": "west", "denied_role": "app", "actions": ["rds:*"]},
    "host.cpu-load": {"host": "app-1", "cores": 2},
    "host.memory-fill": {"host": "app-1", "hold_mib": 64},
    "host.disk-fill": {"host": "app-1", "path": "/data", "leave_bytes": 2**20},
    "host.partition": {"host": "app-1", "peers": PEERS},
    "host.port-blackhole": {"host": "app-1", "ports": [5432, 6379]},
    "host.connection-reset": {"host": "app-1", "ports": [5432, 6379]},
    "host.packet-loss": {"host": "app-1", "peers": PEERS, "percent": 30},
    "host.packet-rate": {"host": "app-1", "peers": PEERS, "per_s": 20},
    "host.dns-failure": {"host": "app-1"},
    "host.bandwidth": {"host": "app-1", "peers": ["10.0.0.5"], "kbit_per_s": 400},
    "host.latency": {"host": "app-1", "peers": ["10.0.0.5"], "delay_ms": 100},
    "sandbox.slow-link": {"link": "replication", "delay": 2.0},
    "data.bit-flip": {"host": "app-1", "path": "/srv/copies/base/5/16384", "seed": 7},
    "data.wal-loss": {"host": "app-1", "path": "/srv/archive", "segment": "000000010000000000000003"},
    "data.wal-truncation": {"host": "app-1", "path": "/srv/archive", "keep_percent": 10},
    "data.empty-backup": {"host": "app-1", "path": "/srv/backups"},
    "data.stale-backup": {"host": "app-1", "path": "/srv/backups"},
    "data.key-loss": {"host": "app-1", "path": "/srv/backups/key.pem", "original": True},
}

FAULTS: dict[str, Example] = {
    "aws.api-latency": Example(
        USED["aws.api-latency"],
        injected={"keys": [key_of("aws.api-latency"), "other"]}, healed={"keys": ["other"]},
    ),
    "aws.api-throttle": Example(
        USED["aws.api-throttle"], injected={"keys": [key_of("aws.api-throttle")]}, healed={"keys": []},
    ),
    "aws.bucket-deny": Example(
        USED["aws.bucket-deny"],
        injected={"statements": [OWN, dated("aws.bucket-deny", 2030)], **ASKED}, healed={"statements": [OWN], **ASKED},
        neither={"its date is over, its text is left": {"statements": [dated("aws.bucket-deny", 2020)], **ASKED}},
    ),
    "aws.iam-deny": Example(
        USED["aws.iam-deny"],
        injected={"policies": {f"drkit-{key_of('aws.iam-deny')}": one_policy(2030)}, **ASKED},
        healed={"policies": {"drkit-other": one_policy(2030)}, **ASKED},
        neither={
            "its date is over, its text is left":
                {"policies": {f"drkit-{key_of('aws.iam-deny')}": one_policy(2020)}, **ASKED},
        },
    ),
    "aws.database-failover": Example(
        {"site": "west", "cluster": "shop", "to": "shop-2"},
        injected={"writer": "shop-2", "status": "available"}, healed={"writer": "shop-1", "status": "available"},
        neither={"it is under way": {"writer": "shop-2", "status": "failing-over"}},
    ),
    "aws.health-check-invert": Example(
        {"site": "west", "health_check": "hc-1"},
        injected={"inverted": True, "version": 2}, healed={"inverted": False, "version": 3},
    ),
    "aws.replication-pause": Example(
        {"site": "west", "bucket": "orders", "rule": "all"},
        injected=copied(all="Disabled", logs="Enabled"), healed=copied(all="Enabled", logs="Disabled"),
        neither={"the rule is gone": copied(logs="Disabled")},
    ),
    "aws.zone-isolate": Example(
        ZONE, injected={"subnets": ["subnet-1"], "acls": [acl("aws.zone-isolate", ZONE)] * 2},
        healed={"subnets": ["subnet-1"], "acls": [{"id": "acl-1"}] * 2},
        neither={"one ACL is open": {"subnets": [], "acls": [acl("aws.zone-isolate", ZONE), {"id": "acl-2"}]}},
    ),
    "aws.database-reboot": Example(
        {"site": "west", "instance": "shop-1", "force_failover": True},
        injected=status("available", "2026-11-23T07:59:00Z"), healed=status("available", "2026-11-23T07:50:00Z"),
        neither={
            "it is under way": status("rebooting", "2026-11-23T07:59:00Z"), "it is lost": status("failed", None),
        },
    ),
    "aws.experiment": Example(
        USED["aws.experiment"], injected=running("running"), healed=running(),
        neither={
            "it begins": running("pending"), "it ends": running("stopping"), "half": running("running", "pending"),
        },
    ),
    "aws.lambda-exhaust": Example(
        {"site": "west", "function": "spare"},
        injected={"unreserved": 100, "reserved": 800}, healed={"unreserved": 900, "reserved": None},
    ),
    "aws.key-disable": Example(
        {"site": "west", "key": "mrk-1"}, injected={"state": "Disabled"}, healed={"state": "Enabled"},
        neither={"somebody deletes it": {"state": "PendingDeletion"}, "it is made": {"state": "Creating"}},
    ),
    "aws.instance-stop": Example(
        {"site": "west", "instance": "i-1", "lease_s": 60.0},
        injected={"state": "stopped"}, healed={"state": "running"},
        neither={"it stops": {"state": "stopping"}, "it starts": {"state": "pending"}, "lost": {"state": "terminated"}},
    ),
    "aws.security-group-cut": Example(
        {"site": "west", "group": "sg-1"},
        injected={"rules": []}, healed={"rules": [{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443}]},
    ),
    "aws.subnet-isolate": Example(
        ISOLATE, injected={"acl": acl("aws.subnet-isolate", ISOLATE)}, healed={"acl": {"id": "acl-1"}},
        neither={"open one way": {"acl": acl("aws.subnet-isolate", ISOLATE, 2)}},
    ),
    "host.process-pause": Example(
        {"host": "app-1", "service": "app", "lease_s": 60.0},
        injected={"processes": 3, "stopped": 3}, healed={"processes": 3, "stopped": 0},
        neither={"one still runs": {"processes": 3, "stopped": 2}},
    ),
    "host.process-kill": Example(
        {"host": "app-1", "service": "app", "lease_s": 60.0},
        injected={"processes": 0, "stopped": 0}, healed={"processes": 3, "stopped": 0},
    ),
    "host.service-stop": Example(
        {"host": "app-1", "service": "app", "lease_s": 60.0},
        injected={"processes": 0, "stopped": 0}, healed={"processes": 3, "stopped": 0},
    ),
    "host.cpu-load": Example(
        USED["host.cpu-load"],
        injected=kept("host.cpu-load", processes=4), healed=kept("host.other", processes=4),
        neither={
            "one has ended": kept("host.cpu-load", processes=2),
            "they do not compute": kept("host.cpu-load", processes=4, stopped=2),
        },
    ),
    "host.memory-fill": Example(
        USED["host.memory-fill"],
        injected=kept("host.memory-fill", processes=4, held_bytes=68_000_000), healed={"kept": []},
        neither={"it is not full yet": kept("host.memory-fill", processes=4, held_bytes=60_000_000)},
    ),
    "host.disk-fill": Example(
        USED["host.disk-fill"],
        injected={"available_bytes": 2**20, "free_inodes": 9, **kept("host.disk-fill", processes=1)},
        healed={"available_bytes": 2**30, "free_inodes": 9},
        neither={
            "somebody made room": {"available_bytes": 2**30, "free_inodes": 9, **kept("host.disk-fill", processes=1)},
        },
    ),
    "host.inode-exhaustion": Example(
        {"host": "app-1", "path": "/data", "leave_inodes": 100},
        injected={"available_bytes": 2**30, "free_inodes": 101}, healed={"available_bytes": 2**30, "free_inodes": 9000},
    ),
    "host.io-limit": Example(
        {"host": "app-1", "service": "app", "path": "/data", "bytes_per_s": 65536},
        injected={"read_bytes_per_s": 65536, "write_bytes_per_s": 65536}, healed={"read_bytes_per_s": 9_000_000},
        neither={"only reading is slow": {"read_bytes_per_s": 65536}},
    ),
    "host.partition": filtered("host.partition"),
    "host.port-blackhole": filtered("host.port-blackhole"),
    "host.connection-reset": filtered("host.connection-reset"),
    "host.packet-loss": filtered("host.packet-loss"),
    "host.packet-rate": filtered("host.packet-rate"),
    "host.dns-failure": Example(
        USED["host.dns-failure"], injected=table("host.dns-failure", 1), healed=table("host.dns-failure", 0),
    ),
    "host.bandwidth": Example(
        USED["host.bandwidth"],
        injected=table("host.bandwidth", 1) | {"shapers": [shaper("host.bandwidth")]}, healed={"tables": []},
        neither={
            "the queue stays, nobody is sent through it": {"shapers": [shaper("host.bandwidth")]},
            "there is no queue": table("host.bandwidth", 1) | {"shapers": ["dfff:"]},
        },
    ),
    "host.latency": Example(
        USED["host.latency"],
        injected=table("host.latency", 1) | kept("host.latency", processes=2), healed={"tables": []},
        neither={
            "the relay is gone, connections still go to it": table("host.latency", 1),
            "the relay runs, connections pass it by": kept("host.latency", processes=2),
        },
    ),
    "host.certificate-expiry": Example(
        {"host": "app-1", "service": "web", "port": 443, "certificate": "/etc/web.pem", "key": "/etc/web.key"},
        injected={"expired": True}, healed={"expired": False}, neither={"no TLS is spoken": {"expired": None}},
    ),
    "host.clock-skew": Example(
        {"host": "app-1", "offset_s": 86400.0},
        injected={"ahead_s": 86399.4}, healed={"ahead_s": -0.2}, neither={"another offset": {"ahead_s": 60.0}},
    ),
    **{fault: data(fault) for fault in USED if fault.startswith("data.")},
    "data.replication-delay": Example(
        {"host": "app-1", "path": "/srv/standby", "delay_s": 60.0},
        injected={"standby": True, "paused": False, "delay_s": 60.0}, healed={"standby": True, "paused": False},
    ),
    "data.replication-lag": Example(
        {"host": "app-1", "path": "/srv/standby", "conninfo": "host=/run/postgresql user=postgres"},
        injected={"standby": True, "paused": True, "behind_bytes": 8192}, healed={"standby": True, "paused": False},
    ),
    "sandbox.slow-link": Example(
        USED["sandbox.slow-link"], injected={"delay_s": 2.0, "key": key_of("sandbox.slow-link")},
        healed={"delay_s": 0.05},
        neither={"somebody has set another delay": {"delay_s": 0.5, "key": key_of("sandbox.slow-link")}},
    ),
    "host.loss": Example({"host": "app-1"}, injected={"answers": False}, healed={"answers": True}),
    "zone.outage": Example(
        {"site": "east", "zone": "easta"},
        injected={"hosts": 2, "running": 0, "outage": True}, healed={"hosts": 2, "running": 2, "outage": False},
        neither={
            "a server boots": {"hosts": 2, "running": 1, "outage": False},
            "it is over, and nothing boots": {"hosts": 2, "running": 0, "outage": False},
        },
    ),
    "dependency.down": Example(
        {"dependency": "replication"}, injected={"cut": True, "down": True}, healed={"cut": False, "down": False},
        neither={"somebody else cut it": {"cut": True, "down": False}},
    ),
    "region.outage": Example(
        {"site": "east"},
        injected={"parts": 5, "running": 0, "links": 3, "links_cut": 3, "outage": True},
        healed={"parts": 5, "running": 5, "links": 3, "links_cut": 0, "outage": False},
        neither={
            "a link carries": {"parts": 5, "running": 0, "links": 3, "links_cut": 2, "outage": True},
            "a part is not back": {"parts": 5, "running": 4, "links": 3, "links_cut": 0, "outage": False},
        },
    ),
}  # fmt: skip

#: One use of every probe that only faults use.
LOOKS: dict[str, list[dict[str, Any]]] = {
    "aws.faults": [{}],
    "aws.api-troubles": [{"site": "west"}],
    "aws.bucket-policy": [{"site": "west", "bucket": "orders"}],
    "aws.database-instance": [{"site": "west", "instance": "shop-1"}],
    "aws.experiment-template": [{"site": "west", "template": "EXT1"}],
    "aws.lambda-concurrency": [{"site": "west", "function": "spare"}],
    "aws.role-denials": [{"site": "west", "denied_role": "app"}],
    "aws.database-cluster": [{"site": "west", "cluster": "shop"}],
    "aws.health-check": [{"site": "west", "health_check": "hc-1"}],
    "aws.key": [{"site": "west", "key": "mrk-1"}],
    "aws.replication": [{"site": "west", "bucket": "orders", "rule": "all"}],
    "aws.zone": [{"site": "west", "zone": "us-west-2a"}, {"site": "west", "zone": "us-west-2a", "vpc": "vpc-1"}],
    "aws.instance": [{"site": "west", "instance": "i-1"}],
    "aws.security-group": [{"site": "west", "group": "sg-1"}],
    "aws.subnet": [{"site": "west", "subnet": "subnet-1"}],
    "data.spoilt": [{"host": "app-1"}],
    "data.replay": [{"host": "app-1", "path": "/srv/standby", "conninfo": "service=standby"}],
    "host.faults": [{}],
    "host.inventory": [{}, {"site": "west", "role": "app"}],
    "host.kept": [{"host": "app-1"}],
    "host.disk": [{"host": "app-1", "path": "/data"}],
    "host.io-limits": [{"host": "app-1", "service": "app", "path": "/data"}],
    "host.traffic": [{"host": "app-1"}],
    "host.certificate": [{"host": "app-1", "port": 443}],
    "host.clock": [{"host": "app-1"}],
    "host.answers": [{"host": "app-1"}],
    "host.processes": [{"host": "app-1", "service": "app"}],
    "sandbox.faults": [{}],
    "zone.state": [{"site": "east", "zone": "easta"}],
    "dependency.state": [{"dependency": "replication"}],
    "sandbox.slow-links": [{}],
    "sandbox.slowness": [{"link": "replication"}],
}
