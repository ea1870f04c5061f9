"""Take orders for an experiment that runs: `drkit abort` and `drkit note`, over the socket that every run has.

A thread, because the experiment itself may be waiting for an activity. Who speaks is what the kernel says.
"""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from drkit.chaos.toolkit.abort import Abort, Reason
from drkit.chaos.toolkit.ledger import Ledger
from drkit.errors import JournalError

if TYPE_CHECKING:
    from drkit.engine.runs import RunFolder

_LINE_MAX = 1 << 20
_WITHIN_S = 3.0


class Desk:
    """Listens from `open` to `close`."""

    def __init__(self, folder: RunFolder, ledger: Ledger, abort: Abort) -> None:
        self._folder, self._ledger, self._abort = folder, ledger, abort
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._serve, daemon=True, name="desk")

    def open(self) -> None:
        """Listen. JournalError if the socket cannot be made."""
        path = self._folder.socket
        path.unlink(missing_ok=True)
        try:
            self._bind(path)
            path.chmod(0o600)
            self._listener.listen()
        except OSError as error:
            raise JournalError(f"orders cannot be taken at {path}: {error}", state="Nothing was changed.") from error
        self._thread.start()

    def _bind(self, path: Path) -> None:
        try:
            self._listener.bind(str(path))
        except OSError as error:
            if "too long" not in str(error):
                raise
            from drkit.engine.orders import short_name

            with short_name(path) as name:
                self._listener.bind(name)

    def close(self) -> None:
        """Listen no more."""
        self._folder.socket.unlink(missing_ok=True)
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(_WITHIN_S)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                wire, _ = self._listener.accept()
            except OSError:
                return  # closed
            with wire:
                wire.settimeout(_WITHIN_S)
                try:
                    answer, why = self._take(wire)
                    wire.sendall(json.dumps({"answer": answer, "why": why}).encode() + b"\n")
                except OSError:
                    continue  # whoever asked has gone; what was ordered is journaled or was never understood

    def _take(self, wire: socket.socket) -> tuple[str, str]:
        from drkit.engine.orders import identity, order_of, peer_uid
        from drkit.model.events import Noted, Ordered

        with wire.makefile("rb") as lines:
            data = lines.readline(_LINE_MAX)
        try:
            order = order_of(data, identity((), peer_uid(wire), "unix socket peer"))
            if isinstance(order, Noted):
                self._ledger.record(Noted, text=order.text, by=order.by)
            elif isinstance(order, Ordered) and order.verb == "abort":
                told = {"verb": order.verb, "by": order.by, "reason": order.reason, "args": order.args}
                self._ledger.record(Ordered, **told)
                self._abort.call(Reason(f"drkit abort by {order.by.get('name')}"))
            else:
                return "refused", "an experiment takes abort and note, nothing else"
        except JournalError as error:
            return "refused", error.message
        return "accepted", ""
