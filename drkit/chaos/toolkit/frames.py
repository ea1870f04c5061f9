"""What runner and worker say to each other: mappings of plain values, in Python's own compact form, one a frame.

Both ends are the same interpreter and one program. Values of other types than Python's plain ones become text.
"""

from __future__ import annotations

import marshal
import socket
import struct
from typing import Any

from drkit.chaos.toolkit.outcome import plain

Frame = dict[str, Any]
_HEAD = struct.Struct("!Q")


def send(wire: socket.socket, frame: Frame) -> None:
    """Send one frame. OSError if nobody is there."""
    try:
        data = marshal.dumps(frame)
    except ValueError:
        data = marshal.dumps({key: _kept(value) for key, value in frame.items()})
    wire.sendall(_HEAD.pack(len(data)) + data)


def receive(wire: socket.socket) -> Frame | None:
    """The next frame; None if the other end is gone."""
    head = _exactly(wire, _HEAD.size)
    data = head and _exactly(wire, _HEAD.unpack(head)[0])
    if not data:
        return None
    frame: Frame = marshal.loads(data)
    return frame


def _kept(value: Any) -> Any:
    try:
        marshal.dumps(value)
    except ValueError:
        return plain(value)
    return value


def _exactly(wire: socket.socket, count: int) -> bytes | None:
    parts: list[bytes] = []
    while count:
        try:
            part = wire.recv(min(count, 1 << 20))
        except ConnectionError:
            return None
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
