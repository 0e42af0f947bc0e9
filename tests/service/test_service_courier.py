"""One message to one receiver, over real sockets: what is checked is what is called, and nobody holds us up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from receivers import read_request, receiver, socket_receiver

from service.courier import MAX_RESPONSE_BYTES, Courier, NotDelivered
from service.destinations import Allowance, DestinationRefused

LOOPBACK = Allowance.parse("127.0.0.1")
ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
Behaviour = Callable[[socket.socket, threading.Event], None]


def post(courier: Courier, url: str, body: bytes = b"{}") -> int:
    return courier.post(url, headers={"webhook-id": "dlv_1"}, body=body).status


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


def at_loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def test_a_message_arrives_as_it_was_signed() -> None:
    with receiver() as told:
        assert post(Courier(LOOPBACK), f"http://127.0.0.1:{told.port}/a?b=c", b'{"x": 1}') == 204
    [one] = told.received
    assert (one.path, one.body) == ("/a?b=c", b'{"x": 1}')
    assert one.headers["host"] == f"127.0.0.1:{told.port}"
    assert one.headers["webhook-id"] == "dlv_1"
    assert (one.headers["content-type"], one.headers["connection"]) == ("application/json", "close")


def test_tls_is_verified_for_the_name_while_the_checked_address_is_called(authority: trustme.CA, ca_file: Path) -> None:
    asked = []

    def resolver(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    courier = Courier(LOOPBACK, ca_file=ca_file, resolver=resolver)
    with receiver(certificate=authority.issue_cert("hooks.example")) as told:
        assert post(courier, f"https://hooks.example:{told.port}/") == 204
        assert told.received[0].headers["host"] == f"hooks.example:{told.port}"
        assert asked == [("hooks.example", told.port)]
        with pytest.raises(NotDelivered, match=r"TLS failed.*other.example"):
            post(courier, f"https://other.example:{told.port}/")
        with pytest.raises(NotDelivered, match="TLS failed"):
            post(Courier(LOOPBACK, resolver=at_loopback), f"https://hooks.example:{told.port}/")
        assert len(told.received) == 1


def test_a_name_that_is_rebound_after_the_check_is_not_asked_again() -> None:
    answers = [["127.0.0.1"], ["127.0.0.2"], ["169.254.169.254"]]
    with receiver() as told:
        courier = Courier(LOOPBACK, resolver=lambda host, port: answers.pop(0))
        assert post(courier, f"http://rebound.example:{told.port}/") == 204
        for _ in range(2):  # the next message is judged by what the name says then
            with pytest.raises(DestinationRefused, match="not a public address"):
                post(courier, f"http://rebound.example:{told.port}/")
        assert (len(told.received), answers) == (1, [])


def test_one_bad_address_among_good_ones_refuses_the_name() -> None:
    with receiver() as told:
        courier = Courier(LOOPBACK, resolver=lambda host, port: ["127.0.0.1", "::1"])
        with pytest.raises(DestinationRefused, match="::1"):
            post(courier, f"http://mixed.example:{told.port}/")
        assert told.received == []


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    with receiver() as told:
        courier = Courier(Allowance.parse("127.0.0.0/8"), resolver=lambda host, port: ["127.0.0.3", "127.0.0.1"])
        assert post(courier, f"http://several.example:{told.port}/") == 204


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with receiver() as metadata, receiver() as told:
        told.statuses, told.headers = [307], {"Location": f"http://127.0.0.1:{metadata.port}/latest/meta-data/"}
        assert post(Courier(LOOPBACK), f"http://127.0.0.1:{told.port}/") == 307
        assert metadata.received == []


def drip_head(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    while not over.wait(0.05):
        connection.sendall(b"H")


def drip_headers(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not over.wait(0.05):
        connection.sendall(b"X: y\r\n")


def say_nothing(connection: socket.socket, over: threading.Event) -> None:
    over.wait()


def interim_for_ever(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    while not over.wait(0.05):
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")


@pytest.mark.parametrize("behave", [drip_head, drip_headers, say_nothing, interim_for_ever])
def test_a_receiver_that_drips_is_left_when_the_time_is_up(behave: Behaviour) -> None:
    with socket_receiver(behave) as port:
        started = time.monotonic()
        with pytest.raises(NotDelivered, match=r"no answer within 0.5 seconds"):
            post(Courier(LOOPBACK, limit_seconds=0.5), f"http://127.0.0.1:{port}/")
        assert time.monotonic() - started >= 0.5


def test_a_receiver_that_does_not_shake_hands_is_left_when_the_time_is_up() -> None:
    with socket_receiver(say_nothing) as port, pytest.raises(NotDelivered, match=r"no answer within 0.5 seconds"):
        post(Courier(LOOPBACK, limit_seconds=0.5), f"https://127.0.0.1:{port}/")


def test_a_receiver_that_does_not_read_is_left_when_the_time_is_up() -> None:
    with socket_receiver(say_nothing) as port, pytest.raises(NotDelivered, match=r"no answer within 0.5 seconds"):
        post(Courier(LOOPBACK, limit_seconds=0.5), f"http://127.0.0.1:{port}/", bytes(64 * 2**20))


def test_no_more_of_an_answer_is_read_than_the_limit() -> None:
    sent = []

    def flood(connection: socket.socket, over: threading.Event) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not over.is_set():
            sent.append(connection.send(bytes(4096).replace(b"\0", b"y")))

    with socket_receiver(flood) as port, pytest.raises(NotDelivered, match=str(MAX_RESPONSE_BYTES)):
        post(Courier(LOOPBACK), f"http://127.0.0.1:{port}/")


def test_a_body_that_never_ends_does_not_hold_up_a_known_answer() -> None:
    def rest_for_ever(connection: socket.socket, over: threading.Event) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not over.wait(0.05):
            connection.sendall(b"x")

    with socket_receiver(rest_for_ever) as port:
        assert post(Courier(LOOPBACK), f"http://127.0.0.1:{port}/") == 200


@pytest.mark.parametrize(
    "answer",
    [b"", b"\r\n\r\n", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 999 X\r\n\r\n", b"HTTP/1.1 20\r\n\r\n",
     b"HTTP/1.1 2000 X\r\n\r\n", ANSWER[:-2]],
)  # fmt: skip
def test_what_is_no_http_answer_is_none(answer: bytes) -> None:
    def behave(connection: socket.socket, over: threading.Event) -> None:
        read_request(connection)
        connection.sendall(answer)

    with socket_receiver(behave) as port, pytest.raises(NotDelivered):
        post(Courier(LOOPBACK), f"http://127.0.0.1:{port}/")


def test_an_interim_answer_is_not_the_answer() -> None:
    def behave(connection: socket.socket, over: threading.Event) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ANSWER)

    with socket_receiver(behave) as port:
        assert post(Courier(LOOPBACK), f"http://127.0.0.1:{port}/") == 204


def test_a_closed_port_and_an_unknown_name_are_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(NotDelivered, match="Connection refused"):
        post(Courier(LOOPBACK), f"http://127.0.0.1:{port}/")

    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(NotDelivered, match="does not resolve"):
        post(Courier(LOOPBACK, resolver=unknown), "https://unknown.example/")


def test_certificates_that_are_not_there_are_missed_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Courier(LOOPBACK, ca_file=tmp_path / "none.pem")
