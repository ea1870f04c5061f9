"""Traffic moves by routing control and names follow, also when nothing in us-east-1 answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from cloud_parts import EAST, EDGES, WEST, Cloud, ask, part, until

from drkit.sandbox.seed_base import Clients, World
from drkit.sandbox.seed_network import names

CELLS = ("cell-10", "cell-40", "cell-50")


class Names:
    """Routing controls, DNS, and the zone in Route 53."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.cloud = Cloud(stack, folder)
        places = {region: (address, 8080) for region, address in EDGES.items()}
        gateways = {region: self.cloud.url(region) for region in (EAST, WEST)}
        world = World(gateways, EAST, WEST, places, places, "orders", "app", "-", b"")
        names(Clients(gateways), world)
        any_port = {"address": "127.1.4.23", "port": 0}
        sites = ((1, EAST), (2, WEST), (3, "onprem"))
        routing = {
            "endpoints": {site: {"address": f"127.1.{n}.24", "port": 0} for n, site in sites},
            "admin": any_port,
            "state": str(folder / "routing.json"),
            "calls": str(folder / "routing-calls.jsonl"),
            "regions": [EAST, WEST],
            "on": EAST,
        }
        self.routing = stack.enter_context(part("routing", routing, folder))[1]
        dns_config = {
            "zone": world.zone,
            "authority": any_port,
            "resolver": any_port,
            "admin": any_port,
            "gateways": [{"region": region, "url": url} for region, url in gateways.items()],
            "routing_state": routing["state"],
            "poll_s": 0.1,
        }
        self.dns = stack.enter_context(part("dns", dns_config, folder))[1]
        until(lambda: ask(self.dns["admin"]["url"] + "/zone")["records"])

    def controls(self, site: str) -> Any:
        """A client of the routing controls' data plane at one site's endpoint."""
        import boto3

        url = self.routing["endpoints"][site]["url"]
        make: Any = boto3.client
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "-" * 40}
        return make("route53-recovery-cluster", region_name=WEST, endpoint_url=url, **keys)

    def swap(self, site: str, *cells: str, to: str) -> None:
        """Move cells to a region through one site's endpoint."""
        arns, away = self.routing["controls"], EAST if to == WEST else WEST
        entries = [
            {"RoutingControlArn": arns[f"{cell}/{region}"], "RoutingControlState": state}
            for cell in cells
            for region, state in ((to, "On"), (away, "Off"))
        ]
        self.controls(site).update_routing_control_states(UpdateRoutingControlStateEntries=entries)

    def ask(self, name: str, role: str = "authority", *, tcp: bool = False) -> tuple[int, list[str], int]:
        """Response code, addresses and TTL."""
        where = self.dns[role]
        query = dns.message.make_query(name, "A")
        over: Any = dns.query.tcp if tcp else dns.query.udp
        answer = over(query, where["address"], port=where["port"], timeout=5)
        found = [(record.to_text(), each.ttl) for each in answer.answer for record in each if each.rdtype == 1]
        return answer.rcode(), [address for address, _ in found], found[0][1] if found else -1

    def shop(self, count: int = 60) -> set[str]:
        """Every address that `shop` was answered with."""
        return {self.ask("shop.reliabletech.example")[1][0] for _ in range(count)}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Names]:
    with ExitStack() as stack:
        yield Names(stack, tmp_path_factory.mktemp("names"))


@pytest.fixture
def world(running: Names) -> Iterator[Names]:
    yield running
    running.cloud.set(EAST)
    for site in (EAST, WEST):
        ask(running.routing["admin"]["url"] + f"/endpoints/{site}", {"mode": "ok"})
    running.swap("onprem", *CELLS, to=EAST)
    time.sleep(0.11)  # the authority reads the controls at most 100 ms late


def test_the_controls_speak_the_aws_protocol_and_page(world: Names) -> None:
    client = world.controls("onprem")
    arn = world.routing["controls"][f"cell-10/{EAST}"]
    state = client.get_routing_control_state(RoutingControlArn=arn)
    assert (state["RoutingControlState"], state["RoutingControlName"]) == ("On", f"cell-10/{EAST}")
    pages = client.get_paginator("list_routing_controls").paginate(PaginationConfig={"PageSize": 4})
    controls = [each for page in pages for each in page["RoutingControls"]]
    listed = {each["RoutingControlName"]: each["RoutingControlState"] for each in controls}
    assert len(controls) == 6
    assert listed == {f"{cell}/{place}": on for cell in CELLS for place, on in ((EAST, "On"), (WEST, "Off"))}
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_routing_control_state(RoutingControlArn=arn + "0")


def test_the_safety_rule_refuses_to_turn_a_cell_dark_unless_it_is_overridden(world: Names) -> None:
    client, arn = world.controls(WEST), world.routing["controls"][f"cell-40/{EAST}"]
    with pytest.raises(client.exceptions.ConflictException) as refused:
        client.update_routing_control_state(RoutingControlArn=arn, RoutingControlState="Off")
    assert refused.value.response["resourceId"] == world.routing["rules"]["cell-40"]
    rules = [world.routing["rules"]["cell-40"]]
    client.update_routing_control_state(RoutingControlArn=arn, RoutingControlState="Off", SafetyRulesToOverride=rules)
    assert client.get_routing_control_state(RoutingControlArn=arn)["RoutingControlState"] == "Off"


def test_any_endpoint_moves_traffic_and_every_other_one_knows(world: Names) -> None:
    ask(world.routing["admin"]["url"] + f"/endpoints/{EAST}", {"mode": "refuse"})
    arn = world.routing["controls"][f"cell-10/{WEST}"]
    with pytest.raises(ConnectionClosedError):
        world.controls(EAST).get_routing_control_state(RoutingControlArn=arn)
    world.swap(WEST, "cell-10", to=WEST)
    assert world.controls("onprem").get_routing_control_state(RoutingControlArn=arn)["RoutingControlState"] == "On"
    calls = ask(world.routing["admin"]["url"] + "/calls")["calls"]
    assert any(call["endpoint"] == EAST and call["status"] == "refused" for call in calls)


def test_an_endpoint_that_is_unavailable_says_so_in_the_apis_words(world: Names) -> None:
    ask(world.routing["admin"]["url"] + f"/endpoints/{WEST}", {"mode": "503"})
    with pytest.raises(ClientError) as refused:
        world.controls(WEST).list_routing_controls()
    assert refused.value.response["Error"]["Code"] == "EndpointTemporarilyUnavailableException"


def test_names_follow_the_controls_within_moments_while_us_east_1_is_down(world: Names) -> None:
    assert world.shop() == {EDGES[EAST]}
    world.cloud.set(EAST, "refuse")
    with pytest.raises(ConnectionClosedError):
        world.cloud.client("route53", WEST).create_hosted_zone(Name="x.example", CallerReference="x")
    world.swap("onprem", *CELLS, to=WEST)
    began = time.monotonic()
    until(lambda: world.shop(20) == {EDGES[WEST]}, 5)
    assert time.monotonic() - began < 2


def test_flipping_one_cell_moves_only_its_share(world: Names) -> None:
    world.swap(WEST, "cell-50", to=WEST)
    time.sleep(0.11)
    assert world.shop() == set(EDGES.values())


def test_names_are_answered_from_the_zone_last_seen_when_no_gateway_answers(world: Names) -> None:
    world.cloud.set(EAST, "refuse")
    world.cloud.set(WEST, "refuse")
    age = until(lambda: (seen := ask(world.dns["admin"]["url"] + "/zone"))["age_s"] > 0.3 and seen)
    assert age["records"] > 0
    assert world.shop(5) == {EDGES[EAST]}
    world.cloud.set(WEST)


def test_pinned_names_over_udp_and_tcp_and_names_that_do_not_exist(world: Names) -> None:
    for region, address in EDGES.items():
        assert world.ask(f"shop-{region}.reliabletech.example") == (0, [address], 1)
        assert world.ask(f"SHOP-{region}.reliabletech.example", tcp=True)[1] == [address]
    assert world.ask("db.reliabletech.example")[1] == [EDGES[EAST]]
    assert world.ask("nobody.reliabletech.example")[0] == dns.rcode.NXDOMAIN
    assert world.ask("example.org")[0] == dns.rcode.REFUSED


def test_the_resolver_keeps_an_answer_for_its_ttl_and_not_longer(world: Names) -> None:
    name = "shop.reliabletech.example"
    until(lambda: world.ask(name, "resolver")[1] == [EDGES[EAST]])
    world.swap("onprem", *CELLS, to=WEST)
    began = time.monotonic()
    until(lambda: world.ask(name)[1] == [EDGES[WEST]])
    until(lambda: world.ask(name, "resolver")[1] == [EDGES[WEST]], 5)
    assert time.monotonic() - began < 3
