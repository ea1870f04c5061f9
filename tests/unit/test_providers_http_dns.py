"""HTTP goes where we say, under the name users use; DNS servers are asked one by one; neither invents an answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from drkit.errors import OutcomeUnknown, Unobservable, Unreachable
from drkit.model.environment import Address, Dns, Environment, Site
from drkit.providers import dns as names
from drkit.providers.http import Answer, Http, pinned


@pytest.fixture
async def server() -> AsyncIterator[tuple[Address, list[str]]]:
    """A server that answers with what it was asked, says nothing at /silent, and hangs up at /gone."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split()[1]
        seen.append(path)
        host = next(line.split(": ", 1)[1] for line in head.split("\r\n") if line.lower().startswith("host:"))
        if path == "/silent":
            await asyncio.sleep(5)
        if path != "/gone":
            body = json.dumps({"host": host, "path": path}).encode()
            status = "404 Not Found" if path == "/missing" else "200 OK"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    yield Address(host="127.0.0.1", port=port), seen
    listening.close()


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    """A provider."""
    made = Http()
    yield made
    await made.aclose()


async def test_a_pinned_request_goes_to_the_address_under_the_services_own_name(
    http: Http, server: tuple[Address, list[str]]
) -> None:
    answer = await http.request("GET", "http://shop.example:8080/buy?x=1", pin=server[0])
    assert answer.json() == {"host": "shop.example:8080", "path": "/buy?x=1"}
    assert str(server[0]) in answer.address


def test_the_pinned_url_keeps_path_query_and_scheme() -> None:
    assert pinned("https://shop.example/a?b=c", Address(host="127.1.2.3", port=44)) == (
        "https://127.1.2.3:44/a?b=c", "shop.example",
    )  # fmt: skip
    assert pinned("https://shop.example/a", None) == ("https://shop.example/a", "shop.example")
    assert pinned("http://shop.example/", Address(host="::1", port=1))[0] == "http://[::1]:1/"


async def test_any_status_is_an_answer(http: Http, server: tuple[Address, list[str]]) -> None:
    assert (await http.request("GET", f"http://{server[0]}/missing")).status == 404


async def test_nobody_there_is_unreachable_also_for_a_write(http: Http) -> None:
    for method in ("GET", "POST"):
        with pytest.raises(Unreachable):
            await http.request(method, "http://127.0.0.1:1/x")


async def test_no_answer_to_a_read_is_unobservable_and_to_a_write_an_unknown_outcome(
    http: Http, server: tuple[Address, list[str]]
) -> None:
    for path in ("/silent", "/gone"):
        with pytest.raises(Unobservable):
            await http.request("GET", f"http://{server[0]}{path}", timeout_s=0.3)
        with pytest.raises(OutcomeUnknown):
            await http.request("POST", f"http://{server[0]}{path}", json_body={}, timeout_s=0.3)
    assert server[1].count("/gone") == 2, "a write is never sent twice"


def test_an_answer_that_is_not_json_is_not_taken_for_one() -> None:
    with pytest.raises(Unobservable):
        Answer(200, b"<html>", "x", 0.0).json()


class Names(asyncio.DatagramProtocol):
    """A name server that knows one name."""

    def __init__(self, address: str) -> None:
        self._address = address

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        import dns.flags
        import dns.message
        import dns.rcode
        import dns.rrset

        question = dns.message.from_wire(data)
        reply = dns.message.make_response(question)
        reply.flags |= dns.flags.AA
        if question.question[0].name.to_text() == "shop.example.":
            reply.answer.append(dns.rrset.from_text("shop.example.", 7, "IN", "A", self._address))
        else:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(reply.to_wire(), addr)


@pytest.fixture
async def authority() -> AsyncIterator[Address]:
    """Where it answers."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Names("127.1.2.20"), local_addr=("127.0.0.1", 0))
    host, port = transport.get_extra_info("sockname")
    yield Address(host=host, port=port)
    transport.close()


def environment(*resolvers: Address) -> Environment:
    """One zone."""
    names = Dns(zone="example", authorities=(), resolvers=resolvers)
    site = Site(name="east", kind="region")
    return Environment(name="t", kind="sandbox", account="0", sites=(site,), dns=names, state_store="file:///x")


async def test_a_name_server_says_addresses_and_for_how_long(authority: Address) -> None:
    provider = names.Dns(environment())
    told = await provider.ask(authority, "shop.example", recursive=False)
    assert (told.addresses, told.ttl_s, told.authoritative) == (("127.1.2.20",), 7, True)
    unknown = await provider.ask(authority, "other.example", recursive=False)
    assert (unknown.addresses, unknown.rcode) == ((), "NXDOMAIN")


async def test_a_silent_resolver_is_passed_over_and_silence_of_all_is_no_answer(authority: Address) -> None:
    dead = Address(host="127.0.0.1", port=1)
    assert await names.Dns(environment(dead, authority)).resolve("shop.example") == "127.1.2.20"
    with pytest.raises(Unobservable):
        await names.Dns(environment(dead)).resolve("shop.example")
    with pytest.raises(Unobservable, match="knows no address"):
        await names.Dns(environment(authority)).resolve("other.example")
