"""[PORT]: sends back what comes in, over TCP and UDP. Runs in the virtual machine; asks nothing but Python.

With PORT: there, and, by a child in a session of its own as daemons have them, at the next one. Without: at the ports
of `ECHO`; and whoever sends a datagram to `CLOCK` is told the time.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

ECHO = (53, 9000, 9001, 9002)
CLOCK = 9003


def accept(server: socket.socket) -> None:
    """Each caller has a thread."""
    while True:
        caller, _ = server.accept()
        threading.Thread(target=echo, args=(caller,), daemon=True).start()


def echo(caller: socket.socket) -> None:
    """One connection, until either end has had enough."""
    with caller:
        try:
            while data := caller.recv(65536):
                caller.sendall(data)
        except OSError:  # it was cut: some of the faults do that
            return


def datagrams(server: socket.socket, *, clock: bool = False) -> None:
    """Each datagram by itself."""
    while True:
        data, who = server.recvfrom(2048)
        try:
            server.sendto(repr(time.time()).encode() if clock else data, who)
        except OSError:  # a filter refused it
            continue


def serve(*ports: int) -> list[threading.Thread]:
    """Listen at all of them."""
    made = []
    for port in ports:
        made.append(threading.Thread(target=accept, args=(socket.create_server(("", port)),)))
        made.append(threading.Thread(target=datagrams, args=(bound(port),)))
    for thread in made:
        thread.start()
    return made


def bound(port: int) -> socket.socket:
    """A socket for datagrams."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("", port))
    return server


if __name__ == "__main__":
    if len(sys.argv) > 1:
        port = int(sys.argv[1])
        if os.fork() == 0:
            os.setsid()
            serve(port + 1)
        else:
            serve(port)
    else:
        serve(*ECHO)
        datagrams(bound(CLOCK), clock=True)
