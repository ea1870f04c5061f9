"""DELAY_MS JITTER_MS: relays TCP connections that the packet filter redirects here, and sends late.

Runs on a host as `python3 -c`, so it imports nothing but the standard library. Its own connections bear MARK.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import sys

MARK = 0xD41
SO_ORIGINAL_DST = 80


async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay_s: float, jitter_s: float) -> None:
    """Bytes in their order, each so late as if the way were longer: a later byte does not wait for an earlier one."""
    loop = asyncio.get_running_loop()
    due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

    async def send() -> None:
        while True:
            at, data = await due.get()
            await asyncio.sleep(at - loop.time())
            if not data:
                sink.write_eof()
                return
            sink.write(data)
            await sink.drain()

    sending = asyncio.create_task(send())
    data = b"."
    while data and not sending.done():
        data = await source.read(65536)
        late_s = max(0.0, delay_s + random.uniform(-jitter_s, jitter_s))
        await due.put((loop.time() + late_s, data))
    await sending


async def relay(caller: asyncio.StreamReader, back: asyncio.StreamWriter, delay_s: float, jitter_s: float) -> None:
    """One connection: to where it was meant to go."""
    raw = back.get_extra_info("socket").getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    port, address = struct.unpack_from("!2xH4s", raw)
    try:
        with socket.socket() as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
            own.setblocking(False)
            await asyncio.sleep(delay_s)
            await asyncio.get_running_loop().sock_connect(own, (socket.inet_ntoa(address), port))
            answers, forth = await asyncio.open_connection(sock=own)
            await asyncio.gather(carry(caller, forth, delay_s, jitter_s), carry(answers, back, 0.0, 0.0))
            forth.close()
    except OSError as error:
        print(f"{socket.inet_ntoa(address)}:{port}: {error}", file=sys.stderr)
    finally:
        back.close()


async def main(delay_s: float, jitter_s: float) -> None:
    """Relay until killed; the port is told first."""
    server = await asyncio.start_server(lambda caller, back: relay(caller, back, delay_s, jitter_s), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) / 1000, float(sys.argv[2]) / 1000))
