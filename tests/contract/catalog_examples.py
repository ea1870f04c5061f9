"""One use of every entry that no shipped runbook shows, and look-alikes: what could be taken for an effect and is not.

A look-alike is the real observation of an effect with one thing changed: a standby whose link died, a process of last
month's release, another machine behind the address, an answer that never came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Use = dict[str, Any]

EXAMPLES: dict[str, list[Use]] = {
    "aws.arc.controls": [{"to": "west", "away": "east"}],
    "aws.autoscaling.state": [{"site": "west", "group": "web"}],
    "aws.autoscaling.scale": [{"site": "west", "group": "web", "to": 6}],
    "aws.cloudwatch.alarms": [{"site": "west", "alarms": ["errors"], "topic": "pages"}],
    "aws.dynamodb.state": [{"site": "west", "table": "sessions"}],
    "aws.ec2.launch-template.state": [{"site": "west", "template": "web", "current": "/shop/ami"}],
    "aws.ec2.volume.state": [{"site": "west", "name": "files"}],
    "aws.elasticache.state": [{"site": "west", "name": "cache"}],
    "aws.elb.state": [{"site": "west", "name": "web", "group": "web"}],
    "aws.kms.key": [{"site": "west", "alias": "alias/data", "grantee": "arn:aws:iam::1:role/app"}],
    "aws.network.state": [{"site": "west", "prefix": "shop"}],
    "aws.s3.state": [{"site": "west", "bucket": "b", "source_bucket": "a", "parameter": "/shop/bucket"}],
    "aws.secrets.state": [{"site": "west", "names": ["shop/db"]}],
    "aws.sqs.state": [{"site": "west", "queues": ["orders"]}],
    "aws.sqs.drained": [{"site": "west", "queues": ["orders"], "processed": "sessions", "rule": "nightly"}],
    "aws.ssm.set": [{"site": "west", "values": {"/shop/active-region": "west"}}],
    "aws.ssm.values": [{"site": "west", "values": {"/shop/active-region": "west"}}],
    "config.database": [
        {"site": "onprem", "role": "batch", "path": "etc/b.json", "service": "b", "database": "orders"}
    ],
    "config.files": [{"site": "west", "role": "app", "path": "etc/app.json", "service": "app"}],
    "config.provided": [
        {"role": "app", "path": "etc/app.json", "service": "app", "secret": "shop/db", "database": "orders"}
    ],
    "config.set": [
        {"site": "west", "role": "app", "path": "etc/a.json", "service": "app", "values": {"uploads.bucket": "b"}}
    ],
    "consumers.state": [{"switch": "/shop/workers", "rule": "nightly", "role": "worker", "service": "worker"}],
    "consumers.workers": [{"switch": "/shop/workers", "role": "worker", "service": "worker", "database": "orders"}],
    "database.fitness": [{"database": "orders", "roles": ["app"]}],
    "deploy.freeze.state": [{"parameter": "/shop/deploys", "hosts": {"west": "app"}}],
    "deploy.state": [
        {"role": "app", "service": "app", "path": "srv/app.py", "parameter": "/shop/release", "bucket": "artifacts"}
    ],
    "dns.answers": [{}, {"name": "shop.example"}],
    "edge.state": [{"site": "west"}],
    "handover.state": [{"database": "orders", "failback": ["look at the backlog"]}],
    "host.nodes": [{"role": "app", "service": "app"}],
    "http.health": [{"pin": "west"}, {"url": "https://shop.example/healthz"}],
    "notify.received": [{"to": ["responders"]}],
    "notify.send": [{"to": ["responders"], "subject": "Impaired", "text": "us-east-1 does not answer."}],
    "postgres.writer": [{"database": "orders", "site": "west"}],
    "postgres.replication": [{"database": "orders"}],
    "process.exists": [{"creates": "/tmp/bundle"}],
    "process.run": [{"argv": ["tar", "-cf", "/tmp/bundle", "/etc/hosts"], "creates": "/tmp/bundle"}],
    "process.proof": [{"proof": ["test", "-e", "/tmp/bundle"]}],
    "process.repeatable": [{"argv": ["touch", "/tmp/mark"], "proof": ["test", "-e", "/tmp/mark"]}],
    "process.once": [{"argv": ["sh", "-c", "echo x >>/tmp/mark"], "proof": ["test", "-s", "/tmp/mark"]}],
    "region.state": [{"site": "east"}],
    "sandbox.link": [{"link": "replication", "delay": 0.2}],
    "sandbox.link-state": [{"link": "replication"}],
    "sandbox.replication": [{"site": "east", "mode": "sync"}],
    "sandbox.replication-state": [{"site": "east"}],
    "service.status": [{"site": "west", "role": "app", "service": "app"}],
    "service.start": [{"site": "west", "role": "app", "service": "app"}],
    "backup.newest": [{"host": "app-1", "path": "/srv/backups"}],
    "ssh.exists": [{"host": "app-1", "creates": "var/bundle"}],
    "ssh.run": [{"host": "app-1", "argv": ["tar", "-cf", "var/bundle", "etc"], "creates": "var/bundle"}],
    "vpn.state": [
        {"to": "west", "origin": "onprem", "role": "batch", "parameter": "/shop/vpn", "database": "orders"}
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Lookalike:
    """The real observation of an effect, and what is different about the one that must not be believed."""

    action: str
    what: str
    params: Use
    real: Use
    but: Use


def lookalikes(action: str, params: Use, real: Use, **but: Use) -> list[Lookalike]:
    """Several for one action; names are what is wrong, with `_` for spaces."""
    return [Lookalike(action, what.replace("_", " "), params, real, change) for what, change in but.items()]


SIDE = {"database": "orders", "site": "west"}
WRITER = {
    "reachable": True, "system_identifier": "7", "in_recovery": False, "read_only": False, "waits_for_standby": False,
    "lease_site": "west", "lease_epoch": 2, "lease_expired": False, "lease_revoked": None, "lease_released": False,
    "seconds_since_renewal": 0.1, "witness": "w",
}  # fmt: skip
GONE = {
    "reachable": False, "why": "refused", "lease_site": "east", "lease_epoch": 1, "lease_expired": True,
    "lease_revoked": "failover", "lease_released": False, "seconds_since_renewal": 4.2, "witness": "w",
}  # fmt: skip
READ_ONLY = {
    "reachable": True, "in_recovery": True, "read_only": True, "is_other_side": False, "system_identifier": "7",
}  # fmt: skip
UP = {
    "host": "app-1", "reached": True, "known": True, "running": True, "release": "sha256:a",
    "release_on_disk": "sha256:a",
}  # fmt: skip
NODE = {
    "host": "app-1", "reached": True, "itself": True, "disk_free_mb": 900, "memory_free_mb": 900, "clock_skew_s": 0.1,
    "installed": True, "admitted": "drkit-r-nodes",
}  # fmt: skip
FILE = {
    "host": "app-1", "known": True, "running": True, "state": "running", "database": "db:5432",
    "content": {"database": {"host": "db", "port": 5432}, "secret_version": "v2", "bucket": "b"},
}  # fmt: skip
QUEUE = {"name": "orders", "exists": True, "waiting": 0, "in_flight": 0, "dead": 0, "redrives": True}
AWAY = {"site": "east", "api": "unreachable", "hosts": "unreachable"}
HERE = {"site": "west", "api": "answered", "hosts": "answered", "switch": "false", "rule": "DISABLED", "running": 0}
BALANCER = {
    "balancer": "arn", "balancer_state": "active", "target_group": "tg", "listener": "l", "tls": True, "forwards": True,
    "attached": True, "instances": ["i-1"], "healthy": ["i-1"], "web_acl": "acl",
}  # fmt: skip

LOOKALIKES = [
    *lookalikes("postgres.fence", {"database": "orders", "site": "east"}, GONE,
                it_is_only_unreachable={"lease_expired": None, "lease_site": None, "lease_revoked": None},
                its_lease_has_not_run_out={"lease_expired": False, "seconds_since_renewal": 3.9},
                its_lease_ran_out_but_may_be_renewed={"lease_revoked": None}),
    *lookalikes("postgres.fence", {"database": "orders", "site": "east"}, READ_ONLY,
                the_target_answers_at_its_address={"is_other_side": True},
                nobody_can_say_who_answers={"is_other_side": None},
                another_cluster_answers={"why": "system 8 is not 7"},
                it_accepts_writes={"in_recovery": False, "read_only": False}),
    *lookalikes("postgres.promote", SIDE, WRITER,
                it_is_still_a_standby={"in_recovery": True, "read_only": True},
                it_has_no_lease={"lease_site": "east"},
                its_lease_ran_out={"lease_expired": True},
                its_lease_was_revoked={"lease_revoked": "somebody"},
                it_takes_no_writes={"read_only": True},
                its_writes_wait_for_a_dead_standby={"waits_for_standby": True},
                it_does_not_answer={"reachable": False},
                another_cluster_answers={"why": "system 8 is not 7"},
                the_other_side_answers={"is_other_side": True},
                the_witness_does_not_answer={"lease_site": None, "lease_expired": None}),
    *lookalikes("service.start", {"site": "west", "role": "app", "service": "app", "release": "sha256:a"},
                {"hosts": [UP], "running": 1, "reached": 1},
                it_does_not_run={"hosts": {"running": False}},
                it_runs_last_months_release={"hosts": {"release": "sha256:b"}},
                another_machine_answers={"hosts": {"known": False}},
                nobody_answers={"hosts": {"reached": False, "running": False}}),
    *lookalikes("service.stop", {"site": "west", "role": "app", "service": "app"},
                {"hosts": [UP | {"running": False}], "running": 0, "reached": 1},
                it_runs={"running": 1},
                nobody_answers={"hosts": {"reached": False}, "reached": 0},
                another_machine_answers={"hosts": {"known": False}}),
    *lookalikes("aws.arc.routing-control", {"to": "west", "away": "east"},
                {"states": {}, "entered": ["cell-10"], "left": []},
                one_cell_has_not_moved={"left": ["cell-50"]}, there_are_no_cells={"entered": []}),
    *lookalikes("aws.autoscaling.scale", {"group": "web", "to": 2, "image": "ami-2"},
                {"exists": True, "desired": 2, "maximum": 9, "in_service": 2, "healthy": 2, "images": ["ami-2"]},
                they_are_wanted_but_not_there={"in_service": 0, "healthy": 0, "images": []},
                they_are_there_but_not_wanted={"desired": 0},
                they_are_there_but_sick={"healthy": 1},
                the_group_may_not_be_that_large={"maximum": 1},
                they_run_the_old_image={"images": ["ami-1"]},
                launching_is_suspended={"suspended": ["Launch"]},
                there_is_no_group={"exists": False, "desired": 0, "in_service": 0, "healthy": 0, "images": []}),
    *lookalikes("aws.cloudwatch.arm", {"alarms": ["a"], "topic": "pages"},
                {"enabled": ["a"], "dead": [], "topic": "t", "subscribers": 1, "page_received": True},
                an_alarm_is_dead={"enabled": [], "dead": ["a"]}, the_page_did_not_arrive={"page_received": False}),
    *lookalikes("aws.dynamodb.write-test", {"table": "t"},
                {"status": "ACTIVE", "items": 5, "proof": True, "source": "unreachable"},
                our_item_is_not_there={"proof": False}, the_replica_is_empty={"items": 0},
                the_table_is_being_made={"status": "CREATING"}, there_is_no_table={"status": None, "items": 0}),
    *lookalikes("aws.ec2.launch-template", {"template": "web", "current": "/ami"},
                {"default_version": 2, "default_image": "ami-2", "current_image": "ami-2", "current_available": True,
                 "current_version": 2},
                it_starts_the_old_image={"default_image": "ami-1", "default_version": 1},
                the_image_is_not_there={"current_available": False}, no_version_starts_it={"current_version": None}),
    *lookalikes("aws.ec2.restore-volume", {"name": "files", "file_system": "files"},
                {"snapshot": "s", "snapshot_age_h": 1.0, "volume": "v", "volume_state": "available",
                 "file_system": "available"},
                there_is_no_volume={"volume": None}, it_is_being_made={"volume_state": "creating"},
                the_snapshot_is_old={"snapshot_age_h": 100.0}, there_is_no_snapshot={"snapshot": None},
                the_file_system_is_not_there={"file_system": None}),
    *lookalikes("aws.elasticache.create", {"name": "c"}, {"status": "available", "nodes": 2,
                "automatic_failover": True},
                it_is_being_made={"status": "creating"}, it_has_one_node={"nodes": 1},
                it_cannot_fail_over={"automatic_failover": False}, there_is_none={"status": None, "nodes": 0}),
    *lookalikes("aws.elb.open", {"name": "web", "group": "web"}, BALANCER,
                it_answers_by_itself={"forwards": False}, nothing_protects_it={"web_acl": None},
                an_instance_is_not_behind_it={"instances": ["i-1", "i-2"]}, it_has_no_certificate={"tls": False},
                new_instances_will_not_be_behind_it={"attached": False}, it_is_not_active={"balancer_state": "failed"}),
    *lookalikes("aws.kms.grant", {"alias": "a", "grantee": "g"},
                {"key_id": "k", "state": "Enabled", "granted": ["Decrypt", "Encrypt"], "round_trip": True},
                it_is_disabled={"state": "Disabled"}, it_is_granted_in_part={"granted": ["Encrypt"]},
                it_does_not_work={"round_trip": False}, there_is_none={"key_id": None}),
    *lookalikes("aws.network.open", {"prefix": "p", "stack": "s", "bucket": "b", "template": "t"},
                {"vpc": "v", "public_subnets": ["a", "b"], "private_subnets": ["c", "d"], "public_zones": 2,
                 "private_zones": 2, "public_way_out": True, "private_table": "t", "private_way_out": "nat",
                 "app_group": "g", "balancer_group": "h", "app_open": True},
                private_subnets_have_no_way_out={"private_way_out": None},
                public_ones_have_none={"public_way_out": False},
                one_zone_only={"private_zones": 1}, nobody_is_let_in={"app_open": False},
                there_is_no_vpc={"vpc": None}),
    *lookalikes("aws.s3.point", {"bucket": "b", "source_bucket": "a", "parameter": "/p"},
                {"exists": True, "versioned": True, "objects": 3, "used": "b", "source": "unreachable"},
                the_application_uses_another={"used": "a"}, it_is_empty={"objects": 0},
                it_keeps_no_versions={"versioned": False}, there_is_none={"exists": False}),
    *lookalikes("aws.secrets.promote", {"names": ["n"], "login": "n", "database": "orders"},
                {"secrets": [{"name": "n", "role": "primary", "version": "v", "intact": True}], "source": "unreachable",
                 "login": True},
                it_is_a_replica={"secrets": {"role": "replica"}}, it_was_changed={"secrets": {"intact": False}},
                the_source_has_a_newer_one={"secrets": {"source_version": "w"}},
                the_login_does_not_work={"login": False},
                there_is_none={"secrets": {"role": None, "version": None, "intact": False}}),
    *lookalikes("aws.sqs.redrive", {"queues": ["orders"]}, {"queues": [QUEUE], "unprocessed": 0},
                dead_letters_go_elsewhere={"queues": {"redrives": False}},
                there_is_no_dead_letter_queue={"queues": {"dead": None}}, there_is_none={"queues": {"exists": False}}),
    *lookalikes("aws.sqs.drain", {"queues": ["orders"], "processed": "t", "rule": "nightly"},
                {"queues": [QUEUE], "unprocessed": 0, "recorded": 9, "schedule": "ENABLED"},
                something_waits={"unprocessed": 1}, the_schedule_is_off={"schedule": "DISABLED"},
                there_is_no_schedule={"schedule": None}, there_is_no_queue={"queues": {"exists": False}}),
    *lookalikes("aws.ssm.set", {"values": {"/a": "1"}}, {"values": {"/a": "1"}, "versions": {"/a": 2}},
                it_has_another_value={"values": {"/a": "2"}}, there_is_none={"values": {"/a": None}}),
    *lookalikes("config.set", {"role": "app", "path": "p", "service": "s", "values": {"bucket": "b"}},
                {"files": [FILE]},
                it_says_something_else={"files": {"content": {"bucket": "a"}}},
                another_machine_answers={"files": {"known": False}}),
    *lookalikes("config.provide", {"role": "app", "path": "p", "service": "s", "secret": "n", "database": "orders",
                                   "values": {"bucket": "b"}},
                {"files": [FILE], "secret_version": "v2", "reached": ["app-1"]},
                the_secret_is_newer={"secret_version": "v3"}, the_database_is_not_reached={"reached": []},
                another_machine_answers={"files": {"known": False}},
                it_says_something_else={"files": {"content": {"bucket": "a"}}}),
    *lookalikes("config.switch", {"site": "onprem", "role": "batch", "path": "p", "service": "s", "database": "orders"},
                {"files": [FILE], "address": "db:5432", "reached": ["app-1"]},
                the_process_works_with_the_former_one={"files": {"database": "old:5432"}},
                the_process_fails={"files": {"state": "failing"}}, the_process_is_gone={"files": {"running": False}},
                the_file_names_another={"files": {"content": {"database": {"host": "old", "port": 5432}}}},
                it_is_not_reached={"reached": []}, another_machine_answers={"files": {"known": False}}),
    *lookalikes("consumers.disable", {"source": "east", "target": "west", "switch": "/s", "rule": "r", "role": "w",
                                      "service": "w"},
                {"source": AWAY, "target": HERE},
                the_source_still_works={"source": {"hosts": "answered", "running": 1, "site": "east"}},
                its_schedule_still_runs={"source": {"api": "answered", "switch": "false", "rule": "ENABLED",
                "site": "east"}},
                the_target_works_too={"target": {"running": 1}},
                the_target_does_not_answer={"target": {"api": "unreachable", "switch": None, "rule": None}},
                another_machine_answers={"source": {"unknown_hosts": 1, "site": "east"}}),
    *lookalikes("consumers.enable", {"switch": "/s", "role": "w", "service": "w", "database": "orders"},
                {"switch": "true", "workers": [{"host": "a", "running": True, "state": "running"},
                                               {"host": "b", "running": True, "state": "waiting"}], "runners": 1},
                nobody_holds_the_lock={"workers": {"state": "waiting"}}, it_fails={"workers": {"state": "failing"}},
                one_does_not_run={"workers": {"running": False}}, two_write={"runners": 2},
                nobody_writes={"runners": 0},
                they_are_switched_off={"switch": "false"}),
    *lookalikes("database.settle", {"database": "orders", "roles": ["app"]},
                {"primary": True, "sequences": {"public.orders_id_seq": 1000}, "missing": [], "wrong": {},
                 "fencing_token": 7, "ours": True, "standbys": 0},
                a_sequence_is_behind={"sequences": {"public.orders_id_seq": -5}}, it_is_a_standby={"primary": False},
                a_role_is_missing={"missing": ["app"]}, a_setting_is_wrong={"wrong": {"fsync": "off"}},
                somebody_newer_holds_it={"ours": False}),
    *lookalikes("deploy.freeze", {"parameter": "/p", "hosts": {"west": "app", "east": "app"}},
                {"parameter": "frozen by x", "source": "unreachable", "hosts": {"w1": True, "e1": None},
                "away": ["e1"]},
                a_server_is_not_frozen={"hosts": {"w1": False}}, a_server_does_not_answer={"hosts": {"w1": None}},
                the_parameter_is_not_set={"parameter": None}, it_was_thawed={"parameter": "thawed"},
                the_source_goes_on={"source": "answered", "source_parameter": "thawed"}),
    *lookalikes("deploy.release", {"role": "app", "service": "app", "path": "p", "parameter": "/r", "bucket": "b"},
                {"tag": "1", "sha256": "sha256:a", "hosts": [UP]},
                it_runs_another_release={"hosts": {"release": "sha256:b"}},
                only_the_file_is_right={"hosts": {"running": False, "release": None}},
                another_machine_answers={"hosts": {"known": False}}, nobody_answers={"hosts": {"reached": False}}),
    *lookalikes("edge.maintenance", {"site": "east", "on": True}, {"source": "answered", "maintenance": True,
                "region": "east"},
                it_lets_writes_in={"maintenance": False}, another_regions_entry_answers={"region": "west"},
                nobody_answers={"source": "unreachable", "maintenance": None}),
    *lookalikes("handover.close", {"database": "orders", "failback": ["x"]},
                {"slot": True, "following": False, "source": "unreachable", "statement": "sha256:a", "signed": True},
                it_is_not_signed={"signed": False}, there_is_no_statement={"statement": None},
                nothing_is_kept_for_the_other_side={"slot": False}),
    *lookalikes("host.admit", {"role": "app", "service": "app"}, {"nodes": [NODE], "fit": 1},
                another_machine_answers={"nodes": {"itself": False}}, its_disk_is_full={"nodes": {"disk_free_mb": 3}},
                its_clock_is_wrong={"nodes": {"clock_skew_s": 90.0}}, nobody_answers={"nodes": {"reached": False}},
                the_service_is_not_installed={"nodes": {"installed": False}},
                nobody_admitted_it={"nodes": {"admitted": None}}),
    *lookalikes("notify.send", {"to": ["customers"], "enough": "all", "subject": "s", "text": "t"},
                {"receipts": [{"sink": "page", "audience": "customers", "received": True}], "nobody": []},
                it_did_not_arrive={"receipts": {"received": False}}, nobody_can_say={"receipts": {"received": None}},
                there_is_nobody_to_tell={"receipts": [], "nobody": ["customers"]}),
    *lookalikes("process.repeatable", {"argv": ["a"], "proof": ["b"]}, {"exit_code": 0, "output": ""},
                it_is_not_so={"exit_code": 1}, the_proof_itself_failed={"exit_code": 127}),
    *lookalikes("process.once", {"argv": ["a"], "proof": ["b"]}, {"exit_code": 0, "output": ""},
                it_is_not_so={"exit_code": 1}, the_proof_itself_failed={"exit_code": -9}),
    *lookalikes("vpn.prefer", {"to": "west", "origin": "onprem", "role": "batch", "parameter": "/p",
                "database": "orders"},
                {"preferred": "west", "address": "a:1", "through": ["o1", "o2"], "stuck": {}},
                one_server_is_stuck={"through": ["o1"], "stuck": {"o2": "timed out"}},
                nobody_tried={"through": []}, the_other_path_is_preferred={"preferred": "east"}),
]  # fmt: skip
