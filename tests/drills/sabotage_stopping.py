"""Steps 1-12 and what is wrong before them: know it, say it, stop it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sabotage_hands import PREFIX, SOURCE, TARGET, Hands, closed_port, with_database, with_site
from sabotage_region import emergency_role_missing
from sabotage_rows import Reply, Sabotaged, answered, broken, idle, unnoticed

IC, DBA = "incident-commander", "database-owner"


@contextmanager
def all_is_well(w: Hands) -> Iterator[None]:
    yield


@contextmanager
def one_witness_of_the_outage(w: Hands) -> Iterator[None]:
    w.endpoint(SOURCE, "refuse")
    try:
        yield
    finally:
        w.endpoint(SOURCE, "ok")


@contextmanager
def responders_deaf(w: Hands) -> Iterator[None]:
    with w.sinks_down("slack", "pagerduty"):
        yield


@contextmanager
def thawed_after(w: Hands) -> Iterator[None]:
    """What a freeze leaves behind is taken away, so that the next one has something to do."""
    hosts = [host.name for host in w.environment.hosts]
    try:
        yield
    finally:
        w.set_parameter(f"/{PREFIX}/deploys/state", "thawed")
        for host in hosts:
            (w.root(host) / "etc/deploy-freeze").unlink(missing_ok=True)


@contextmanager
def server_hangs(w: Hands) -> Iterator[None]:
    with thawed_after(w), w.frozen("app-west-2"):
        yield


@contextmanager
def another_server_unfrozen(w: Hands) -> Iterator[None]:
    with thawed_after(w), w.stranger("app-west-1"):
        yield


@contextmanager
def another_server(w: Hands) -> Iterator[None]:
    with w.stranger("app-west-1"):
        yield


@contextmanager
def key_taken_away(w: Hands) -> Iterator[None]:
    with w.file("onprem-2", "etc/authorized_keys", lambda lines: ""):
        yield


@contextmanager
def quota_low(w: Hands) -> Iterator[None]:
    name = f"/{PREFIX}/quotas/ec2/L-1216C47A"
    with w.other_parameter(name, json.dumps(json.loads(w.parameter(name)) | {"value": 4})):
        yield


@contextmanager
def group_small(w: Hands) -> Iterator[None]:
    scaling, group = w.aws("autoscaling"), f"{PREFIX}-web"
    scaling.update_auto_scaling_group(AutoScalingGroupName=group, MaxSize=3)
    try:
        yield
    finally:
        scaling.update_auto_scaling_group(AutoScalingGroupName=group, MaxSize=24)


@contextmanager
def service_silent(w: Hands) -> Iterator[None]:
    with w.silent_service("elasticache"):
        yield


@contextmanager
def ledger_gone(w: Hands) -> Iterator[None]:
    assert w.environment.prober is not None
    current = Path(w.environment.prober.folder) / "current.json"
    kept = current.rename(current.with_suffix(".kept"))
    try:
        yield
    finally:
        kept.rename(current)


@contextmanager
def standby_unreachable(w: Hands) -> Iterator[None]:
    nobody = closed_port(w.environment.site(TARGET))
    with w.told(lambda environment: with_database(environment, TARGET, address=nobody)):
        yield


@contextmanager
def mail_down(w: Hands) -> Iterator[None]:
    with w.sinks_down("mail"):
        yield


@contextmanager
def entry_of_the_other_side(w: Hands) -> Iterator[None]:
    other = w.environment.site(TARGET).edge_admin
    try:
        with w.told(lambda environment: with_site(environment, SOURCE, edge_admin=other)):
            yield
    finally:
        assert not (w.folder / "state" / f"maintenance-{TARGET}").exists(), "the wrong entry was put into maintenance"


@contextmanager
def witness_silent(w: Hands) -> Iterator[None]:
    nobody = closed_port(w.environment.site(TARGET))

    with w.told(
        lambda environment: environment.model_copy(
            update={
                "witness": environment.witness and environment.witness.model_copy(update={"url": f"http://{nobody}"})
            }
        )
    ):
        yield


@contextmanager
def schedule_missing(w: Hands) -> Iterator[None]:
    events, name = w.aws("events"), f"{PREFIX}-nightly-settlement"
    events.delete_rule(Name=name)
    try:
        yield
    finally:
        events.put_rule(Name=name, ScheduleExpression="cron(0 2 * * ? *)", State="DISABLED")


@contextmanager
def onprem_server_hangs(w: Hands) -> Iterator[None]:
    with ExitStack() as kept:
        kept.enter_context(w.frozen("onprem-2"))
        yield
    with contextlib.suppress(AssertionError):
        w.on("onprem-1", "svc", "start", "batch")


STEPS = (
    Sabotaged(
        "assess",
        real="users, entry, database lease and cloud endpoint are asked for real",
        users="a failover that nobody needed, or none where one is needed",
        rows=(
            broken("the region is well", all_is_well, r"failing=[01]", world_well=True, within_s=2),
            broken(
                "only one vantage point of four says that it fails",
                one_witness_of_the_outage,
                r"failing=1",
                world_well=True,
            ),
        ),
    ),
    Sabotaged(
        "page",
        real="messages are sent, and looked for where they arrive",
        metadata="whoever receives them is a recorder",
        users="nothing at first; then every decision comes late, because nobody was called",
        rows=(
            idle(r"sink=slack[^)]*received=False"),
            broken("Slack and the pager take nothing", responders_deaf, r"sink=slack[^)]*received=False"),
        ),
    ),
    Sabotaged(
        "declare",
        real="the gate: role, person, and what was shown are checked",
        users="traffic moved by a machine's word alone",
        rows=(
            answered("nobody answers", r"waits for approval by incident-commander"),
            answered("rejected", r"rejected by lee", Reply("lee", IC, "reject")),
            answered("approved in another role", r"waits for approval by incident-commander", Reply("lee", DBA)),
        ),
    ),
    Sabotaged(
        "freeze",
        real="the parameter, and the file on every server",
        metadata="no pipeline reads them here",
        users="a release or migration lands in the middle of the recovery",
        rows=(
            idle(r"hosts=.*False"),
            broken("a server of the side entered hangs", server_hangs, r"app-west-2=\?"),
            broken(
                "another machine answers for a server of the side entered", another_server_unfrozen, r"app-west-1=\?"
            ),
        ),
    ),
    Sabotaged(
        "access",
        real="logins over SSH with known host keys, the database's login, and the call of STS",
        metadata="that the role exists is not checked by the cloud here",
        users="nothing, until the first step that logs in fails in the middle",
        rows=(
            broken("another machine answers for a server", another_server, r"app-west-1.*machine-id"),
            broken("a server does not know the operator's key any more", key_taken_away, r"onprem-2"),
            unnoticed(
                "the break-glass role is missing",
                emergency_role_missing,
                "the cloud here lets everybody assume every role; step 20 looks whether roles exist",
            ),
        ),
    ),
    Sabotaged(
        "preflight",
        real="every API is asked; the parameters are real",
        metadata="quotas and capacity bind nothing here",
        users="half a service: instances that do not start for lack of quota",
        rows=(
            broken("a quota is lower than needed", quota_low, r"ec2/L-1216C47A.*4 of 24"),
            broken("the group may not grow to production size", group_small, r"reliabletech-web.*3 of 6"),
            broken("one API that is needed does not answer", service_silent, r"elasticache"),
        ),
    ),
    Sabotaged(
        "positions",
        real="the standby, the canary's ledger, table and bucket; the snapshot's time",
        metadata="the snapshot itself",
        users="nothing; but two persons accept a loss that nobody has measured",
        rows=(
            broken("the ledger outside cannot be read", ledger_gone, r"ledger cannot be read"),
            broken("the standby does not answer", standby_unreachable, r"orders in us-west-2.*cannot be connected"),
        ),
    ),
    Sabotaged(
        "announce",
        real="status page, mail and webhook are sent and looked for where they arrive",
        metadata="whoever receives them is a recorder",
        users="no word on the status page while the shop is down",
        rows=(
            idle(r"statuspage.*received=False"),
            broken("the mail server takes nothing", mail_down, r"mail.*received=False"),
        ),
    ),
    Sabotaged(
        "maintenance",
        real="the entry turns writes away; one that does not answer is recorded as unreachable",
        users="orders are confirmed on the side that is being left, and lost",
        rows=(
            idle(r"maintenance=False"),
            broken("the entry's address leads to the other side's entry", entry_of_the_other_side, r"us-west-2"),
        ),
    ),
    Sabotaged(
        "fence",
        real="the writer's lease at the witness; the old writer stops by itself",
        users="two databases take orders at once; half of them disappear",
        rows=(
            idle(r"in_recovery=False, read_only=False"),
            broken("the witness does not answer", witness_silent, r"witness .* not say who may write", within_s=12),
        ),
    ),
    Sabotaged(
        "consumers-off",
        real="workers over SSH, the switch they obey; the schedule's state",
        metadata="no schedule fires here",
        users="messages are processed twice, once on each side",
        rows=(
            idle(r"site=us-east-1.*running=2"),
            broken(
                "the schedule to turn off is not there",
                schedule_missing,
                r"site=us-west-2, api=answered, hosts=answered, switch=false, rule=\?",
            ),
            broken("another machine answers for a server of the side entered", another_server, r"unknown_hosts=1"),
        ),
    ),
    Sabotaged(
        "onprem-stop",
        real="services on servers over SSH",
        users="on-prem goes on writing to a database that nobody will read",
        rows=(
            idle(r"host=onprem-1.*running=True"),
            broken("one of the servers hangs", onprem_server_hangs, r"host=onprem-2, reached=False"),
        ),
    ),
)
