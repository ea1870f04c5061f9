"""What actions decide: undo, sorting, comparing, wording. On plain data."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import asyncssh
import pytest

from drkit.actions import aws_arc, aws_autoscaling, config, deploy, edge, service
from drkit.actions.aws_acm import covered, understood
from drkit.actions.aws_secrets import value_digest
from drkit.actions.database import weigh
from drkit.actions.dns import summary
from drkit.actions.handover import signed, slot_name, verified
from drkit.actions.together import fail_with, together
from drkit.actions.trying import tried
from drkit.context import Context
from drkit.errors import Refused, ShutOut, StepFailed, Unobservable, Unreachable
from drkit.measure.loss import Coverage
from drkit.model.environment import Environment, Sink, Site
from drkit.model.measurements import Write
from drkit.notify.wording import Message, mail, pagerduty, slack, statuspage, usable
from drkit.providers.dns import Told
from drkit.testing import context

ENVIRONMENT = Environment(
    name="test",
    kind="sandbox",
    account="0",
    sites=(Site(name="east", kind="region"), Site(name="west", kind="region")),
    state_store="file:///nowhere",
)


def ctx(mode: str = "ungraceful") -> Context:
    """A context that reaches nothing."""
    return replace(context(ENVIRONMENT), mode=mode)


# -- several at once, and the side that may be silent ------------------------------------------------------------------


async def test_answers_come_in_the_order_of_asking() -> None:
    async def after(seconds: float, answer: str) -> str:
        await anyio.sleep(seconds)
        return answer

    assert await together([after(0.02, "a"), after(0.0, "b")]) == ["a", "b"]


async def test_the_first_failure_is_raised_as_itself() -> None:
    async def fail() -> str:
        raise Unreachable("nobody")

    async def nested() -> list[str]:
        return await together([fail(), fail()])

    with pytest.raises(Unreachable, match="nobody"):
        await together([nested(), nested()])


def silent(seconds: float) -> Awaitable[str]:
    """Somebody who answers late."""

    async def answer() -> str:
        await anyio.sleep(seconds)
        return "late"

    return answer()


async def test_after_a_loss_silence_is_recorded_and_a_refusal_is_raised() -> None:
    async def fail(error: Exception) -> str:
        raise error

    assert await tried(ctx(), silent(5), deadline_s=0.02) == ("unreachable", None)
    assert await tried(ctx(), fail(Unobservable("?"))) == ("unreachable", None)
    assert await tried(ctx(), silent(0)) == ("answered", "late")
    for refusal in (StepFailed("no"), ShutOut("the key does not fit")):
        with pytest.raises(type(refusal)):
            await tried(ctx(), fail(refusal))


async def test_in_a_planned_move_silence_is_not_accepted_from_the_side_being_left_until_it_is_fenced() -> None:
    async def fail() -> str:
        raise Unreachable("nobody")

    with pytest.raises(Unreachable):
        await tried(ctx("graceful"), fail())
    assert await tried(ctx("graceful"), fail(), fenced=True) == ("unreachable", None)


def test_where_nobody_let_us_in_nothing_was_done_and_else_it_must_be_looked_at() -> None:
    shut = [ShutOut("a: no", hint="ssh a"), Refused("b: no")]
    with pytest.raises(Refused, match="a: no b: no") as refused:
        fail_with(shut, asked=2)
    assert refused.value.hint == "ssh a"
    with pytest.raises(StepFailed) as half:
        fail_with(shut, asked=3)
    assert half.value.world == "unknown"


# -- taking back -------------------------------------------------------------------------------------------------------


def test_a_service_is_stopped_again_only_where_all_of_it_was_stopped() -> None:
    def group(running: int) -> service.Services:
        hosts = [service.HostService(host=f"h{n}", reached=True, known=True, running=n < running) for n in range(2)]
        return service.Services(hosts=hosts, running=running, reached=2)

    start = service.Start(site="west", role="app", service="app")
    back = service.stop_again(start, group(0), None)
    assert back is not None and back.uses == "service.stop"
    assert service.stop_again(start, group(1), None) is None
    stop = service.Stop(site="west", role="app", service="app")
    again = service.start_again(stop, group(2), None)
    assert again is not None and again.uses == "service.start"
    assert service.start_again(stop, group(1), None) is None


def test_traffic_goes_back_whole_or_not_at_all() -> None:
    shift = aws_arc.Shift(to="west", away="east", stages=[["cell-10"]])
    before = aws_arc.arranged({"cell-10/east": True, "cell-10/west": False}, "west", "east")
    back = aws_arc.move_back(shift, before, None)
    assert back is not None
    assert (back.params["to"], back.params["away"], back.params["stages"]) == ("east", "west", [])
    halfway = aws_arc.arranged({"cell-10/east": False, "cell-10/west": True}, "west", "east")
    assert aws_arc.move_back(shift, halfway, None) is None


def test_a_cell_that_is_on_on_both_sides_has_not_moved() -> None:
    both = aws_arc.arranged({"cell-10/east": True, "cell-10/west": True}, "west", "east")
    assert (both.entered, both.left) == ([], ["cell-10"])


def test_a_group_goes_back_to_the_size_it_had() -> None:
    back = aws_autoscaling.scale_back(
        aws_autoscaling.Scale(group="web", to=6, image="ami-2"),
        aws_autoscaling.GroupState(exists=True, desired=2),
        None,
    )
    assert back is not None and (back.params["to"], back.params["image"]) == (2, "")


def test_maintenance_goes_back_to_what_the_entry_said_and_not_to_what_it_did_not_say() -> None:
    wanted = edge.Maintenance(site="east", on=True)
    was_off = edge.EntryState(source="answered", maintenance=False, region="east")
    back = edge.turned_back(wanted, was_off, None)
    assert back is not None and back.params["on"] is False
    assert edge.turned_back(wanted, edge.EntryState(source="unreachable"), None) is None


def test_deployments_that_were_frozen_before_stay_frozen() -> None:
    freeze = deploy.Freeze(parameter="/p", hosts={"west": "app"})
    thawed = deploy.Frozen(parameter=None, source="unreachable", hosts={}, away=[])
    frozen = deploy.Frozen(parameter="frozen by somebody", source="unreachable", hosts={}, away=[])
    back = deploy.thaw(freeze, thawed, None)
    assert back is not None and back.params["on"] is False
    assert deploy.thaw(freeze, frozen, None) is None


# -- comparing ---------------------------------------------------------------------------------------------------------


def test_values_are_set_by_dotted_name_and_the_rest_is_kept() -> None:
    content: Any = {"database": {"host": "a", "port": 1}, "name": "x"}
    assert config.changed(content, {"database.host": "b", "new.deep": 3}) == {
        "database": {"host": "b", "port": 1}, "name": "x", "new": {"deep": 3},
    }  # fmt: skip
    assert content["database"]["host"] == "a", "what was seen is not changed"


def test_where_the_database_is_does_not_count_as_part_of_the_secret() -> None:
    one = value_digest({"password": "p", "host": "east"})
    assert one == value_digest({"host": "west", "password": "p"})
    assert one != value_digest({"password": "q", "host": "east"})


@pytest.mark.parametrize(
    ("name", "names", "good"),
    [
        ("shop.example", ["shop.example"], True), ("shop.example", ["*.example"], True),
        ("a.shop.example", ["*.example"], False), ("shop.example", ["*.shop.example"], False),
        ("shop.example", [], False),
    ],
)  # fmt: skip
def test_a_wildcard_covers_one_label(name: str, names: list[str], good: bool) -> None:
    assert covered(name, names) is good


def test_a_certificate_is_read_itself() -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = (
        builder.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=9))
    )
    names = x509.SubjectAlternativeName([x509.DNSName("b.example"), x509.DNSName("a.example")])
    made = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem = made.public_bytes(serialization.Encoding.PEM)
    found, days = understood(pem, now)
    assert found == ["a.example", "b.example"]
    assert days == pytest.approx(9, abs=0.01)
    assert understood(pem, now - timedelta(days=2))[1] == 0.0, "not valid yet"
    assert understood(pem, now + timedelta(days=10))[1] < 0


def test_dns_agrees_only_if_everybody_answers_the_same_known_entry() -> None:
    entries = {"127.1.1.20": "east", "127.1.2.20": "west"}

    def told(server: str, *addresses: str) -> Told:
        return Told(server, addresses, 1, "NOERROR", True)

    assert summary([told("a", "127.1.2.20"), told("b", "127.1.2.20")], [], entries).all == "west"
    assert summary([told("a", "127.1.2.20"), told("b", "127.1.1.20")], [], entries).all == "mixed"
    assert summary([told("a", "127.1.2.20")], ["b"], entries).all == "mixed", "a silent server says nothing"
    assert summary([told("a", "10.0.0.1")], [], entries).all == "unknown"
    assert summary([told("a")], [], entries).all == "unknown", "no address leads nowhere"


def write(number: int, t: float, acknowledged: bool = True) -> Write:
    """One canary."""
    return Write(f"canary:{number}", t, "2026-01-01T00:00:00Z", acknowledged, "east", number)


def test_a_cut_tail_is_a_loss_with_a_length_and_a_hole_is_named() -> None:
    entries = tuple(write(n, float(n)) for n in range(1, 11))
    coverage = Coverage([0.0, *(write.t for write in entries)])
    tail = weigh(entries, {f"canary:{n}" for n in range(1, 8)}, coverage)
    assert (tail.lost, tail.holes, tail.window_seconds) == (3, 0, 3.0)
    hole = weigh(entries, {f"canary:{n}" for n in range(1, 11) if n != 5}, coverage)
    assert (hole.lost, hole.holes) == (1, 1)
    assert weigh(entries, {f"canary:{n}" for n in range(1, 11)}, coverage).window_seconds == 0.0
    assert weigh(entries, set(), coverage).window_seconds is None, "nothing survived: the window has no beginning"
    assert weigh((), set(), coverage).window_seconds is None, "no ledger, no figure"


def test_an_unanswered_write_is_not_lost() -> None:
    entries = (write(1, 1.0), write(2, 2.0, acknowledged=False))
    assert weigh(entries, {"canary:1"}, Coverage([0.0, 1.0, 2.0])).lost == 0


def test_a_statement_is_signed_as_it_stands() -> None:
    key, other = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    kept = signed({"run": "r", "loss": {"seconds": 0.2}}, key)
    assert verified(kept, key)
    assert not verified(kept, other)
    assert not verified({**kept, "statement": {"run": "r", "loss": {"seconds": 0.1}}}, key)
    assert not verified({"statement": kept["statement"]}, key)
    assert slot_name("us-east-1") == "reprotect_us_east_1"


# -- wording -----------------------------------------------------------------------------------------------------------


def sink(name: str, audience: Any, *, real: bool) -> Sink:
    """A sink."""
    return Sink(name=name, kind="slack", url="http://127.0.0.1:1", audience=audience, real=real)


def test_a_drill_reaches_nobody_real() -> None:
    sinks = (sink("a", "customers", real=True), sink("b", "customers", real=False), sink("c", "drill", real=False))
    assert [s.name for s in usable(sinks, "customers", drill=False)] == ["a", "b"]
    assert [s.name for s in usable(sinks, "customers", drill=True)] == ["b"]
    assert [s.name for s in usable(sinks, "regulator", drill=True)] == ["c"], "the drill's own audience instead"
    assert usable(sinks[:1], "customers", drill=True) == []


def test_a_drills_message_says_so_everywhere_and_can_be_recognised() -> None:
    message = Message("Impaired", "us-east-1 fails", "drkit-r-page", "drkit-r", drill=True)
    for shape in (slack(message), pagerduty(message, "key"), statuspage(message)):
        assert "[DRILL]" in str(shape)
        assert "drkit-r-page" in str(shape)
    made = mail(message, sink("m", "stakeholders", real=False))
    assert made["Subject"].startswith("[DRILL]")
    assert "drkit-r-page" in made.get_content()
    assert "[DRILL]" not in str(slack(Message("Impaired", "x", "r", "i")))


def test_the_pages_of_one_incident_belong_together_and_are_resolved_in_the_end() -> None:
    first = pagerduty(Message("Impaired", "x", "drkit-r-page", "drkit-r"), "key")
    last = pagerduty(Message("Recovered", "x", "drkit-r-recovered", "drkit-r", status="resolved"), "key")
    assert first["dedup_key"] == last["dedup_key"] == "drkit-r"
    assert (first["event_action"], last["event_action"]) == ("trigger", "resolve")
