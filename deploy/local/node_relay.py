"""Hands connections on to a port of this machine's loopback, to which pods have no way.

Run as a script, standard library only: `node_relay.py ADDRESS PORT TARGET_PORT READY_FILE [PID]`. With PID,
process 1 of a node's room (`node_room.py`), it listens at ADDRESS in the node's network, and so stands in for
kube-proxy where ADDRESS is a Service's. READY_FILE is made when it listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

_CHUNK_BYTES = 1 << 16


@contextlib.contextmanager
def network_of(pid: int) -> Iterator[None]:
    """setns(2) into a process' network and back; what was opened meanwhile stays there."""
    libc = ctypes.CDLL(None, use_errno=True)
    places = [os.open(f"/proc/{of}/ns/net", os.O_RDONLY) for of in (pid, "self")]

    def enter(place: int) -> None:
        if libc.setns(place, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"setns: {os.strerror(number)}", f"/proc/{pid}/ns/net")

    enter(places[0])
    try:
        yield
    finally:
        enter(places[1])
        for place in places:
            os.close(place)


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Hand on until the source ends."""
    with contextlib.suppress(OSError):  # one of the two is gone, and so is the connection
        while chunk := await source.read(_CHUNK_BYTES):
            sink.write(chunk)
            await sink.drain()
        sink.write_eof()


async def serve(listener: socket.socket, target_port: int) -> None:
    """Hand on every connection for good."""

    async def one(asked: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            inner, inside = await asyncio.open_connection("127.0.0.1", target_port)
            await asyncio.gather(pump(asked, inside), pump(inner, answer))
            inside.close()
        answer.close()

    server = await asyncio.start_server(one, sock=listener)
    await server.serve_forever()


def main() -> None:
    """Listen, say so, hand on."""
    address, port, target, ready, *room = sys.argv[1:]
    with network_of(int(room[0])) if room else contextlib.nullcontext():
        listener = socket.create_server((address, int(port)))
    Path(ready).touch()
    asyncio.run(serve(listener, int(target)))


if __name__ == "__main__":
    main()
