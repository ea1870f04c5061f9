"""The sandbox's replication between regions: S3 objects and DynamoDB items, source to target, with a lag.

moto stores a replication configuration and copies nothing, so this part does what the configuration promises: it looks
at the source every `poll_s`, and what changed is copied once it has been waiting for `lag_s`. An object's change is
known by its ETag, an item's by its content; removals follow, too. When the source stops answering nothing is copied,
and what was seen but not yet copied stays in the backlog: that is what a failover loses.

What only the target has is never touched: only what came over is taken away again.

Config: `{"source": {"region", "url"}, "target": {"region", "url"}, "buckets": {FROM: TO}, "tables": {FROM: TO},
"admin": {"address", "port"}, "lag_s": 0.3, "poll_s": 0.5}`. Ready line: `{"admin": {"address", "port", "url"}}`.
Admin: `GET /backlog` → `{"running", "source_up", "target_up", "seen_age_s", "lag_s", "total", "buckets": {FROM:
{"pending", "keys", "copied"}}, "tables": {...}}`; `seen_age_s` says how old the knowledge of the source is ·
`POST /settings {"running"?: bool, "lag_s"?: N}`.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from drkit.sandbox.parts import announce, die_with_parent, load_config
from drkit.sandbox.parts._web import Reply, Request, json_reply, serve, wait_for_term
from drkit.sandbox.parts._wire import Wire, WireError

CALLER = "sandbox-replicator"
DOWN_POLL_S = 1.0


class Channel(Protocol):
    """One replicated thing: a bucket or a table, as versions by key on either side."""

    def source_versions(self) -> Mapping[str, str]:
        """Key → version at the source. Raises WireError."""

    def target_versions(self) -> Mapping[str, str]:
        """Key → version at the target. Raises WireError."""

    def copy(self, key: str) -> None:
        """Bring one over. Raises WireError."""

    def remove(self, key: str) -> None:
        """Take one away at the target. Raises WireError."""


class Bucket:
    """Objects, versioned by ETag."""

    def __init__(self, source: Wire, target: Wire, names: tuple[str, str]) -> None:
        self._source, self._target = source, target
        self._from, self._to = names

    def source_versions(self) -> Mapping[str, str]:
        """Key → ETag at the source."""
        return self._source.list_objects(self._from)

    def target_versions(self) -> Mapping[str, str]:
        """Key → ETag at the target."""
        return self._target.list_objects(self._to)

    def copy(self, key: str) -> None:
        """Bring one object over, with its content type and metadata."""
        content, headers = self._source.get_object(self._from, key)
        self._target.put_object(self._to, key, content, headers)

    def remove(self, key: str) -> None:
        """Take one object away at the target."""
        self._target.delete_object(self._to, key)


class Table:
    """Items, versioned by a digest of their content; the key is the JSON of the primary key."""

    def __init__(self, source: Wire, target: Wire, names: tuple[str, str]) -> None:
        self._source, self._target = source, target
        self._from, self._to = names
        self._key_names: list[str] = []
        self._seen: dict[str, dict[str, Any]] = {}

    def source_versions(self) -> Mapping[str, str]:
        """Primary key → digest at the source; remembers the items, so that a copy is what was seen."""
        self._seen = self._items(self._source, self._from)
        return {key: _digest(item) for key, item in self._seen.items()}

    def target_versions(self) -> Mapping[str, str]:
        """Primary key → digest at the target."""
        return {key: _digest(item) for key, item in self._items(self._target, self._to).items()}

    def copy(self, key: str) -> None:
        """Bring one item over."""
        self._target.dynamodb("PutItem", {"TableName": self._to, "Item": self._seen[key]})

    def remove(self, key: str) -> None:
        """Take one item away at the target."""
        self._target.dynamodb("DeleteItem", {"TableName": self._to, "Key": json.loads(key)})

    def _items(self, wire: Wire, table: str) -> dict[str, dict[str, Any]]:
        if not self._key_names:
            schema = wire.dynamodb("DescribeTable", {"TableName": table})["Table"]["KeySchema"]
            self._key_names = [each["AttributeName"] for each in schema]
        found: dict[str, dict[str, Any]] = {}
        query: dict[str, Any] = {"TableName": table}
        while True:
            page = wire.dynamodb("Scan", query)
            for item in page["Items"]:
                found[json.dumps({name: item[name] for name in self._key_names}, sort_keys=True)] = item
            if "LastEvaluatedKey" not in page:
                return found
            query["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def _digest(item: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()


@dataclass
class Progress:
    """What is known of one channel: what the target has of the source, and what waits since when."""

    copied: dict[str, str] | None = None
    """What the target has, of what the source ever had; None until both were looked at once."""
    waiting: dict[str, tuple[str | None, float]] = field(default_factory=dict)
    """Key → version to bring over (None: to remove) and when it was first seen, monotonic."""


def due(progress: Progress, versions: Mapping[str, str], now: float, lag_s: float) -> list[tuple[str, str | None]]:
    """Note what differs from the source's versions; what has waited for the lag, oldest first."""
    copied = progress.copied or {}
    wanted: dict[str, str | None] = {key: version for key, version in versions.items() if copied.get(key) != version}
    wanted |= {key: None for key in copied if key not in versions}
    old = progress.waiting
    progress.waiting = {
        key: (version, old[key][1] if key in old and old[key][0] == version else now) for key, version in wanted.items()
    }
    ready = [(since, key, version) for key, (version, since) in progress.waiting.items() if now - since >= lag_s]
    return [(key, version) for _, key, version in sorted(ready, key=lambda each: each[:2])]


class Replicator:
    """Follows all channels in one thread."""

    def __init__(
        self, channels: Mapping[tuple[str, str], Channel], source_region: str, lag_s: float, poll_s: float
    ) -> None:
        self._source_region = source_region
        self.lag_s = lag_s
        self.running = True
        self._poll_s = poll_s
        self._channels = channels
        self._progress = {name: Progress() for name in channels}
        self._up: dict[str, bool | None] = {"source": None, "target": None}
        self._seen_at: float | None = None
        threading.Thread(target=self._follow, daemon=True, name="replicator").start()

    def backlog(self) -> dict[str, Any]:
        """What `GET /backlog` answers."""
        age = None if self._seen_at is None else time.monotonic() - self._seen_at
        shown: dict[str, Any] = {"buckets": {}, "tables": {}}
        for (kind, name), progress in self._progress.items():
            keys = sorted(progress.waiting)
            copied = len(progress.copied) if progress.copied is not None else None
            shown[kind][name] = {"pending": len(keys), "keys": keys[:100], "copied": copied}
        total = sum(len(progress.waiting) for progress in self._progress.values())
        state = {"running": self.running, "source_up": self._up["source"], "target_up": self._up["target"]}
        return {**state, "seen_age_s": age, "lag_s": self.lag_s, "total": total, **shown}

    def _follow(self) -> None:
        while True:
            steps = [self._step(name) for name in self._channels] if self.running else []
            time.sleep(self._poll_s if all(steps) else DOWN_POLL_S)

    def _step(self, name: tuple[str, str]) -> bool:
        """One look at one channel, and the copies that are due; False if the source or the target did not answer."""
        channel, progress = self._channels[name], self._progress[name]
        try:
            versions = channel.source_versions()
            self._up["source"], self._seen_at = True, time.monotonic()
            if progress.copied is None:
                there = channel.target_versions()
                progress.copied = {key: there[key] for key in versions if key in there}
            for key, version in due(progress, versions, time.monotonic(), self.lag_s):
                self._bring_over(channel, progress, key, version)
        except WireError as error:
            side = "source" if error.region == self._source_region else "target"
            if error.status is None and self._up[side] is not False:
                print(f"{side} does not answer: {error}", file=sys.stderr)
            self._up[side] = error.status is not None
            return error.status == 404  # removed between the look and the copy: the next look settles it
        self._up["target"] = True
        return True

    def _bring_over(self, channel: Channel, progress: Progress, key: str, version: str | None) -> None:
        assert progress.copied is not None
        if version is None:
            channel.remove(key)
            progress.copied.pop(key)
        else:
            channel.copy(key)
            progress.copied[key] = version
        progress.waiting.pop(key)


def admin(replicator: Replicator) -> Callable[[Request], Reply]:
    """The admin API as a function."""

    def handle(request: Request) -> Reply:
        match (request.method, request.path):
            case ("GET", "/backlog"):
                return json_reply(replicator.backlog())
            case ("POST", "/settings"):
                settings = request.json()
                replicator.lag_s = float(settings.get("lag_s", replicator.lag_s))
                replicator.running = bool(settings.get("running", replicator.running))
                return json_reply(replicator.backlog())
        return json_reply({"error": f"nothing at {request.method} {request.path}"}, 404)

    return handle


def main() -> None:
    """Serve until SIGTERM."""
    die_with_parent()
    config = load_config()
    source, target = (Wire(config[side]["url"], config[side]["region"], CALLER) for side in ("source", "target"))
    channels: dict[tuple[str, str], Channel] = {}
    for names in config.get("buckets", {}).items():
        channels["buckets", names[0]] = Bucket(source, target, names)
    for names in config.get("tables", {}).items():
        channels["tables", names[0]] = Table(source, target, names)
    lag_s, poll_s = float(config.get("lag_s", 0.3)), float(config.get("poll_s", 0.5))
    replicator = Replicator(channels, config["source"]["region"], lag_s, poll_s)
    where = config["admin"]
    port = serve(where["address"], int(where.get("port", 0)), admin(replicator)).server_port
    announce(admin={"address": where["address"], "port": port, "url": f"http://{where['address']}:{port}"})
    wait_for_term()


if __name__ == "__main__":
    main()
