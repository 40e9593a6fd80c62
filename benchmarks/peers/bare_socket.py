"""The least that a server can be: a blocking socket around ``session.run``. No peer, but what others are held to."""

import contextlib
import socket

import numpy as np
from session import PORT, made


def main() -> None:
    """Answer one connection after the other; the head says how long the body is, and nothing else is read of it."""
    session, name = made()
    shape = [size if isinstance(size, int) else 1 for size in session.get_inputs()[0].shape]
    with socket.create_server(("127.0.0.1", PORT)) as listening:
        while True:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):  # clients may leave
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                serve(connection, session, name, shape)


def serve(connection: socket.socket, session: object, name: str, shape: list[int]) -> None:
    """Answer all requests of one connection."""
    stream = connection.makefile("rb", buffering=1 << 16)
    while line := stream.readline():
        length = 0
        while line.strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line[15:])
            elif line.lower().startswith(b"shape:"):
                shape = [int(size) for size in line[6:].split(b",")]
            line = stream.readline()
        tensor = np.frombuffer(stream.read(length), np.float32).reshape(shape)
        answer = session.run(None, {name: tensor})[0].tobytes()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)


if __name__ == "__main__":
    main()
