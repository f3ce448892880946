"""The lifeline of a node: a TCP connection to the watcher of its attempt, by which each notices when the other ends.

A process that ends closes it at once. The kernel's keepalive distinguishes a host that vanished from one that is busy
or suspended, whose kernel still answers. TensorFlow does not notice a vanished host.
"""

import json
import socket
import struct
import threading
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge

SILENCE_SECONDS = 30  # without an answer from the other kernel before its host counts as lost
HELLO_SECONDS = 20  # for a new connection to prove that it has the run's token
ASK_SECONDS = 5  # between two queries for memory and load
LONGEST = 4096  # bytes of one message
LOOPBACK = ("127.0.0.1", "localhost")

NODE, WATCHER = b"node ", b"watcher "  # each side signs with its role, so that a node cannot be used to answer another

ENDED = (EOFError, ConnectionResetError, BrokenPipeError)  # the other process ended, not its host
REFUSED = (OSError, EOFError, ValueError, AuthenticationError, AssertionError)  # the last: Python 3.11, no challenge


def listen(host: str) -> socket.socket:
    """Return a socket on a free port: of the loopback interface if `host` is 127.0.0.1, otherwise of all interfaces."""
    return socket.create_server((host if host in LOOPBACK else "", 0), backlog=1024)


def held(port: int) -> tuple[socket.socket, int]:
    """Hold `port`, or a free one if it is 0, until the socket is closed: only a server with SO_REUSEPORT can use it."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind(("", port))
    return holder, holder.getsockname()[1]


def join(host: str, port: int, token: str, who: dict) -> Connection:
    """The node's side: connect, prove that both sides have the run's token, and say who we are.

    Raises one of REFUSED if no watcher listens there or it has another token.
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
    """The node's side: answer queries with `tell()` until the watcher ends; returns whether its host is lost."""
    try:
        while connection.recv_bytes(LONGEST):
            connection.send_bytes(json.dumps(tell()).encode())
        return False
    except ENDED:
        return False
    except OSError:
        return True


def accept(reached: socket.socket, token: str) -> tuple[Connection, dict]:
    """The watcher's side: return a new connection, and who it says it is. Raises one of REFUSED for a stranger."""
    connection = _connection(reached)
    deliver_challenge(connection, NODE + token.encode())
    answer_challenge(connection, WATCHER + token.encode())
    who = json.loads(connection.recv_bytes(LONGEST))
    _wait(connection, 0)
    return connection, who


def ask(connection: Connection, told: Callable[[dict], None], over: threading.Event) -> bool:
    """The watcher's side: pass each answer to `told` until the node ends; returns whether its host is lost.

    Each query waits for the answer to the one before, so that queries do not pile up for a suspended node.
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
    """Return a connection that ends when the other kernel is silent, and whose first messages must come soon."""
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
    """Set how long a read may take; 0 for no limit."""
    with socket.socket(fileno=connection.fileno()) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", seconds, 0))
        same.detach()
