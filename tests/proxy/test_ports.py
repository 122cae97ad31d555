"""Ports are asked for before anything starts, and a refusal says who has them."""

import os
import socket

import pytest

from proxy import ports


def listener(host: str = "127.0.0.1", *, shared: bool = False) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((host, 0))
    made.listen()
    return made


@pytest.mark.parametrize("shared", [False, True])
def test_a_taken_port_is_refused_with_its_holder(shared: bool) -> None:
    """Also when it is taken by somebody who would share it: that is another installation."""
    with listener(shared=shared) as theirs:
        port = theirs.getsockname()[1]
        with pytest.raises(ports.PortTaken, match=f"port {port} is taken by .*{os.getpid()}"):
            ports.hold("127.0.0.1", port)


def test_a_held_port_can_be_shared_by_our_own_children_only_on_purpose() -> None:
    """Edges bind with SO_REUSEPORT while the supervisor holds the port; the held socket gets no calls."""
    held = ports.hold("127.0.0.1", 0)
    with socket.socket() as edge:
        edge.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        edge.bind((held.host, held.port))
        edge.listen()
        for _ in range(20):
            socket.create_connection((held.host, held.port), timeout=5).close()
            edge.accept()[0].close()
    with pytest.raises(ports.PortTaken):
        ports.hold("127.0.0.1", held.port)
    held.release()
    ports.hold("127.0.0.1", held.port).release()


def test_port_0_takes_a_free_one_and_the_address_can_be_written() -> None:
    """Tests and demos need no number."""
    held = ports.hold("127.0.0.1", 0)
    assert held.port > 0
    assert held.address == f"127.0.0.1:{held.port}"
    held.release()


def test_an_ipv6_address_is_written_in_brackets() -> None:
    """As `--listen` reads it."""
    with socket.socket() as spare:
        assert ports.Held("::1", 8080, spare).address == "[::1]:8080"


def test_an_address_of_another_machine_is_refused_in_words() -> None:
    """192.0.2.0/24 is nobody's (RFC 5737)."""
    with pytest.raises(ports.PortTaken, match=r"192\.0\.2\.1 is not an address of this machine"):
        ports.hold("192.0.2.1", 0)


def test_nobody_listens_on_a_free_port() -> None:
    """What cannot be known is not guessed."""
    held = ports.hold("127.0.0.1", 0)
    held.release()
    assert ports.who_listens(held.port) is None
