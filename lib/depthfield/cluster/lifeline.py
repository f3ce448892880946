"""The lifeline of a node: one TCP connection to the watcher of its attempt, by whose end each learns of the other's.

A process that ends closes it at once. A host that vanishes without a word is told by the kernel's keepalive from one
that is busy or suspended, whose kernel still answers. TensorFlow notices no vanished host.
"""

import json
import socket
import struct
import threading
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge

SILENCE_SECONDS = 30  # without an answer of the other's kernel: its host is lost
HELLO_SECONDS = 20  # for a connection to show that it has the run's token
ASK_SECONDS = 5  # between two questions for memory and load
LONGEST = 4096  # bytes of one message
LOOPBACK = ("127.0.0.1", "localhost")

NODE, WATCHER = b"node ", b"watcher "  # each answers in its own name, so that no node can be made to answer another

ENDED = (EOFError, ConnectionResetError, BrokenPipeError)  # the other's process, not its host
REFUSED = (OSError, EOFError, ValueError, AuthenticationError, AssertionError)  # the last: Python 3.11, no challenge


def listen(host: str) -> socket.socket:
    """A socket on a free port: of the loopback where `host`, as nodes know us, is that, else of every interface."""
    return socket.create_server((host if host in LOOPBACK else "", 0), backlog=1024)


def held(port: int) -> tuple[socket.socket, int]:
    """A free port (0) or this one, kept until the socket is closed: only a server with SO_REUSEPORT can take it."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind(("", port))
    return holder, holder.getsockname()[1]


def join(host: str, port: int, token: str, who: dict) -> Connection:
    """The node's end: connect, show the run's token, ask for the same, and tell who we are.

    Raises one of REFUSED where nobody is there or the token is another.
    """
    reached = socket.create_connection((host, port), timeout=HELLO_SECONDS)
    reached.settimeout(None)
    connection = _connection(reached)
    answer_challenge(connection, NODE + token.encode())
    deliver_challenge(connection, WATCHER + token.encode())
    connection.send_bytes(json.dumps(who).encode())
    _wait(connection, 0)
    return connection


def answer(connection: Connection, tell: Callable[[], dict]) -> bool:
    """The node's end: answer questions with what `tell` returns until the watcher ends; whether its host is lost."""
    try:
        while connection.recv_bytes(LONGEST):
            connection.send_bytes(json.dumps(tell()).encode())
        return False
    except ENDED:
        return False
    except OSError:
        return True


def accept(reached: socket.socket, token: str) -> tuple[Connection, dict]:
    """The watcher's end: whoever connected, and who it says it is. Raises one of REFUSED for a stranger."""
    connection = _connection(reached)
    deliver_challenge(connection, NODE + token.encode())
    answer_challenge(connection, WATCHER + token.encode())
    who = json.loads(connection.recv_bytes(LONGEST))
    _wait(connection, 0)
    return connection, who


def ask(connection: Connection, told: Callable[[dict], None], over: threading.Event) -> bool:
    """The watcher's end: pass each answer to `told` until the node ends; whether it was its host that was lost.

    Never a second question before the first is answered: a suspended node would be drowned in them.
    """
    try:
        while not over.is_set():
            connection.send_bytes(b"?")
            told(json.loads(connection.recv_bytes(LONGEST)))
            connection.poll(ASK_SECONDS)  # returns early when the node has ended
        return False
    except (*ENDED, ValueError):
        return False
    except OSError:
        return True
    finally:
        connection.close()


def _connection(reached: socket.socket) -> Connection:
    """A connection that ends when the other's kernel is silent, and whose first messages must come soon."""
    reached.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    reached.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_SECONDS // 3)
    reached.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE_SECONDS // 6)
    reached.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    reached.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_SECONDS * 1000)
    reached.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = Connection(reached.detach())
    _wait(connection, HELLO_SECONDS)
    return connection


def _wait(connection: Connection, seconds: int) -> None:
    """How long a read may take; 0 for ever."""
    with socket.socket(fileno=connection.fileno()) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", seconds, 0))
        same.detach()
