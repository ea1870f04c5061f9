"""The witness: outside both regions, it grants the one writer's lease and sees whether it is being renewed.

A lease is granted only when no writer can still believe in one: there was none, its holder released it, or its last
renewal is longer ago than term + margin on the witness's own CLOCK_BOOTTIME. Holders count from the *sending* of their
last acknowledged renewal, so a holder always stops before the witness says so, whatever the clocks of the two say.

Revoking refuses further renewals; it does not shorten the wait, because the holder may not have heard of it.
The state is on disk before an answer is given. A witness that finds no clock of its own (it was restarted) counts from
its start, and one that finds no state at all behaves as if there had been a holder: it waits the full time.

Where two persons let a writer begin while no witness could be asked, it reports here as soon as there is one again, and
is adopted: under its own epoch, or one above ours, so that whoever held a lease before can never renew it. Of two such
writers the one of the later run (the higher fencing token) counts.

    POST /acquire {holder, site, expect_epoch?}  200 the lease | 409 {refused, ...}
    POST /adopt   {holder, site, epoch, token, ended?}  200 the lease | 409 {refused: "superseded", ...}
    POST /renew   {holder, epoch}                200 the lease | 409 {refused: "revoked" | "not the holder", ...}
    POST /release {holder, epoch}                200
    POST /revoke  {reason, permit?}              200 | 412 {error}: the run that asks holds its environment no longer
    GET  /lease                                  {holder, site, epoch, seconds_since_renewal, term_s, margin_s, expired,
                                                  clock}
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from drkit.sandbox.parts import announce, die_with_parent, load_config
from drkit.sandbox.parts._holders import Holders, clock
from drkit.sandbox.parts._web import Reply, Request, json_reply, serve, wait_for_term


def boot_time() -> float:
    """Seconds since boot, also those asleep: the only clock that leases are counted on."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Lease:
    """The latest lease. `released`: its holder said that it stopped. `revoked`: further renewals are refused.

    `override`: fencing token of the last run whose override was adopted, in this lease or an earlier one; 0: none.
    """

    holder: str | None = None
    site: str | None = None
    epoch: int = 0
    released: bool = False
    revoked: str | None = None
    override: int = 0


class Register:
    """The lease, its last renewal, and the rules. Thread-safe; every change is durable before it is answered."""

    def __init__(self, path: Path, term_s: float, margin_s: float) -> None:
        self.path, self.term_s, self.margin_s = path, term_s, margin_s
        self._lock = threading.Lock()
        self._seen = boot_time()
        if path.exists():
            self._lease = Lease(**json.loads(path.read_text()))
        else:
            self._lease = Lease(holder="unknown", site=None)

    def acquire(self, holder: str, site: str, expect_epoch: int | None) -> tuple[dict[str, Any], int]:
        """Grant a new lease, or say why not. `expect_epoch`: refuse if somebody else held one after that."""
        with self._lock:
            if (why := self._why_not(holder, expect_epoch)) is not None:
                return {"refused": why, **self._shown()}, 409
            self._keep(Lease(holder, site, self._lease.epoch + 1, override=self._lease.override))
            self._seen = boot_time()
            print(f"epoch {self._lease.epoch} granted to {holder}", file=sys.stderr, flush=True)
            return self._shown(), 200

    def adopt(
        self, holder: str, site: str, epoch: int, token: int, *, ended: bool = False
    ) -> tuple[dict[str, Any], int]:
        """Take over a writer that began by override under `epoch`, in the run with this fencing token. Repeatable.

        `ended`: it writes no more, so nobody who was granted a lease since is put out by it.
        """
        with self._lock:
            known = self._lease
            late = token < max(known.override, 1) or (token == known.override and site != known.site)
            if late or (ended and epoch <= known.epoch):
                return {"refused": "superseded", **self._shown()}, 409
            if (holder, token) != (known.holder, known.override):
                self._keep(Lease(holder, site, max(epoch, known.epoch + 1), released=ended, override=token))
                print(f"epoch {self._lease.epoch} adopted from {holder}: override", file=sys.stderr, flush=True)
            self._seen = boot_time()
            return self._shown(), 200

    def _why_not(self, holder: str, expect_epoch: int | None) -> str | None:
        if expect_epoch is not None and expect_epoch != self._lease.epoch:
            return "superseded"
        if not self._free():
            return "held"
        if self._lease.revoked is not None and holder == self._lease.holder:
            return "revoked"  # whoever was fenced never comes back by waiting: the fence was observed, and acted upon
        return None if holder else "no holder named"

    def renew(self, holder: str, epoch: int) -> tuple[dict[str, Any], int]:
        """Count from now, if this is the holder and nobody revoked. Not written to disk: a restart counts anew."""
        with self._lock:
            lease = self._lease
            if (lease.holder, lease.epoch, lease.released) != (holder, epoch, False):
                return {"refused": "not the holder", **self._shown()}, 409
            if lease.revoked is not None:
                return {"refused": "revoked", **self._shown()}, 409
            self._seen = boot_time()
            return self._shown(), 200

    def release(self, holder: str, epoch: int) -> tuple[dict[str, Any], int]:
        """The holder says that it writes no more."""
        with self._lock:
            if (self._lease.holder, self._lease.epoch) != (holder, epoch):
                return {"refused": "not the holder", **self._shown()}, 409
            self._keep(replace(self._lease, released=True))
            return self._shown(), 200

    def revoke(self, reason: str) -> tuple[dict[str, Any], int]:
        """Refuse every further renewal of the present lease."""
        with self._lock:
            self._keep(replace(self._lease, revoked=reason))
            print(f"epoch {self._lease.epoch} revoked: {reason}", file=sys.stderr, flush=True)
            return self._shown(), 200

    def shown(self) -> dict[str, Any]:
        """What `GET /lease` answers."""
        with self._lock:
            return self._shown()

    def _free(self) -> bool:
        if self._lease.holder is None or self._lease.released:
            return True
        return boot_time() - self._seen > self.term_s + self.margin_s

    def _keep(self, lease: Lease) -> None:
        draft = self.path.with_suffix(".new")
        with draft.open("w") as file:
            json.dump(asdict(lease), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._lease = lease

    def _shown(self) -> dict[str, Any]:
        return {
            **asdict(self._lease),
            "seconds_since_renewal": round(boot_time() - self._seen, 6),
            "term_s": self.term_s,
            "margin_s": self.margin_s,
            "expired": self._free(),
        }


def _handler(register: Register, holders: Holders, request: Request) -> Reply:
    body = request.json()
    if not isinstance(body, dict):
        raise ValueError("expected a JSON object")
    match request.method, request.path:
        case "GET", "/lease":
            return json_reply({**register.shown(), "clock": clock()})
        case "POST", "/acquire":
            expect = body.get("expect_epoch")
            found = register.acquire(str(body.get("holder", "")), str(body.get("site", "")), expect)
        case "POST", "/adopt":
            numbers = int(body.get("epoch", -1)), int(body.get("token", 0))
            holder, site = str(body.get("holder", "")), str(body.get("site", ""))
            found = register.adopt(holder, site, *numbers, ended=bool(body.get("ended")))
        case "POST", "/renew":
            found = register.renew(str(body.get("holder", "")), int(body.get("epoch", -1)))
        case "POST", "/release":
            found = register.release(str(body.get("holder", "")), int(body.get("epoch", -1)))
        case "POST", "/revoke":
            if (why := holders.why_not(body.get("permit"))) is not None:
                return json_reply({"error": why}, 412)
            found = register.revoke(str(body.get("reason") or "no reason given"))
        case _:
            return json_reply({"error": f"no {request.method} {request.path}"}, 404)
    return json_reply(*found)


def main() -> None:
    """Config: `host`, `port`, `state` (file), `term_s`, `margin_s`."""
    die_with_parent()
    config = load_config()
    state = Path(config["state"])
    register = Register(state, float(config["term_s"]), float(config["margin_s"]))
    holders = Holders(state.with_suffix(".holder"))
    server = serve(config["host"], int(config.get("port", 0)), lambda request: _handler(register, holders, request))
    announce(host=config["host"], port=server.server_port)
    wait_for_term()


if __name__ == "__main__":
    main()
