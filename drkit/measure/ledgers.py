"""What is written outside the database about what was written inside it, and what was found there afterwards.

Two ledgers are kept while users work: `canary` (numbered writes straight to the database) and `orders` (order ids for
which a user got a 2xx). After a recovery whoever can read the database records what is there as a third readings
file, `present`, so that the comparison can be made again from files alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drkit.measure.loss import Coverage
from drkit.measure.readings import Readings, ReadingsWriter, head
from drkit.model.measurements import ReadingsRef, Write
from drkit.model.values import Json

_BATCH = 500


def canary_id(number: int) -> str:
    """How a canary row is called in figures and reports."""
    return f"canary:{number}"


def order_id(id: str) -> str:
    """How an order is called in figures and reports."""
    return f"order:{id}"


def writes(ledgers: Iterable[Readings]) -> tuple[Write, ...]:
    """Every write that the ledgers know of and that the database may hold, acknowledged or unanswered.

    A write that was refused, or never sent, is not among them: it cannot be in the database.
    """
    return tuple(sorted((w for ledger in ledgers for w in _writes(ledger)), key=lambda write: write.t))


def coverage(ledger: Readings) -> Coverage:
    """When the ledger was kept: it writes a sign of life every second when it has nothing else to write."""
    return Coverage((ledger.header["t"], *(record["t"] for record in ledger.records)))


def first_canary(ledgers: Iterable[Readings]) -> int | None:
    """Lowest number in the canary ledgers: rows below it belong to earlier ledgers and are no business of this one."""
    return min((r["n"] for ledger in ledgers for r in ledger.records if r.get("what") == "write"), default=None)


@dataclass(frozen=True, slots=True)
class Present:
    """What was found in the database: ids spelled as in `Write.id`, and by order which journey placed it."""

    ids: frozenset[str]
    journeys: Mapping[str, int]


def write_present(
    path: Path,
    *,
    id: str,
    canary: Iterable[int],
    orders: Iterable[str] | Mapping[str, str],
    source: dict[str, Json],
) -> ReadingsRef:
    """Record which canary numbers and order ids the database holds; `source` says who answered (host, identity).

    The caller takes the heads of the ledgers *first* and then reads both from the recovered primary, limited to what
    these ledgers are about: canaries from `first_canary` on, orders whose `reference` begins with the id of the orders
    ledger. `orders` maps ids to references; without references an order that nobody was told about cannot be told
    from one placed since the heads were taken, and is not counted. The file must not exist yet.
    """
    references = orders if isinstance(orders, Mapping) else dict.fromkeys(orders, "")
    with ReadingsWriter(path, id=id, kind="present") as writer:
        writer.write({"what": "source", **source})
        for ranges in _batches(_ranges(sorted(set(canary)))):
            writer.write({"what": "canary", "ranges": [list(pair) for pair in ranges]})
        for ids in _batches(iter(sorted(references))):
            writer.write({"what": "orders", "ids": list(ids), "journeys": [_journey_of(references[id]) for id in ids]})
        writer.write({"what": "end"})
    return head(path)


def present(found: Readings) -> Present | None:
    """What a `present` file holds. None: it was not finished, so absence means nothing."""
    ids: set[str] = set()
    journeys: dict[str, int] = {}
    for record in found.records:
        match record["what"]:
            case "canary":
                ids.update(canary_id(n) for first, last in record["ranges"] for n in range(first, last + 1))
            case "orders":
                names = [order_id(id) for id in record["ids"]]
                ids.update(names)
                journeys |= {id: j for id, j in zip(names, record["journeys"], strict=True) if j is not None}
            case "end":
                return Present(frozenset(ids), journeys)
    return None


def in_scope(found: Present, entries: Iterable[Write], failed_orders: Collection[int]) -> frozenset[str]:
    """What was found, without what was written after the ledgers' heads were taken.

    `failed_orders`: journeys that tried to order and got no good answer; such an order may be there all the same.
    """
    known = {write.id for write in entries}
    last = max((int(id.partition(":")[2]) for id in known if id.startswith("canary:")), default=-1)
    return frozenset(
        id
        for id in found.ids
        if id in known
        or (id.startswith("canary:") and int(id.partition(":")[2]) <= last)
        or found.journeys.get(id) in failed_orders
    )


def _journey_of(reference: str) -> int | None:
    number = reference.rpartition("-")[2]
    return int(number) if number.isdigit() else None


def _writes(ledger: Readings) -> Iterator[Write]:
    for record in ledger.records:
        outcome = record.get("outcome")
        if outcome not in ("acknowledged", "unanswered"):
            continue
        acknowledged = outcome == "acknowledged"
        if record["what"] == "write":
            yield Write(
                canary_id(record["n"]), record["t"], record["at"], acknowledged, record.get("site"), record["n"]
            )
        elif record["what"] == "order":
            yield Write(order_id(record["order_id"]), record["t"], record["at"], acknowledged, record.get("site"))


def _ranges(numbers: list[int]) -> Iterator[tuple[int, int]]:
    first: int | None = None
    last = 0
    for number in numbers:
        if first is not None and number == last + 1:
            last = number
            continue
        if first is not None:
            yield first, last
        first = last = number
    if first is not None:
        yield first, last


def _batches(items: Iterator[Any]) -> Iterator[tuple[Any, ...]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH:
            yield tuple(batch)
            batch.clear()
    if batch:
        yield tuple(batch)
