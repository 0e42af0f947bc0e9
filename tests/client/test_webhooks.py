"""Whether a message is believed: the published vector of Standard Webhooks, and every way to forge one."""

from __future__ import annotations

import pytest

from saddlescope.client import WebhookInvalid
from saddlescope.client.webhooks import verify
from saddlescope.contract.webhooks import sign

# The example of the reference implementations.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KNOWN = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
OTHER = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
NOW = 1_767_225_600
BODY = b'{"type":"job.succeeded","timestamp":"2026-01-01T00:00:00.000Z","data":{"verdict":"saddle"}}'


def headers(**changes: str) -> dict[str, str]:
    signature = sign(SECRET, message_id="dlv_1", timestamp=NOW, body=BODY)
    signed = {"webhook-id": "dlv_1", "webhook-timestamp": str(NOW), "webhook-signature": signature}
    return signed | {name.replace("_", "-"): value for name, value in changes.items()}


def test_the_published_example_has_its_signature() -> None:
    message_id = "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert sign(SECRET, message_id=message_id, timestamp=1614265330, body=b'{"test": 2432232314}') == KNOWN
    bare = SECRET.removeprefix("whsec_")
    assert sign(bare, message_id=message_id, timestamp=1614265330, body=b'{"test": 2432232314}') == KNOWN


def test_a_signed_message_is_read() -> None:
    message = verify({name.title(): value for name, value in headers().items()}, BODY.decode(), SECRET, now=NOW + 299)
    assert (message.type, message.data) == ("job.succeeded", {"verdict": "saddle"})


@pytest.mark.parametrize("order", ["{ours} v1,AAAA", "v1,AAAA {ours}", "v1a,xyz {ours}"])
def test_one_signature_of_several_is_enough(order: str) -> None:
    ours = headers()["webhook-signature"]
    assert verify(headers(webhook_signature=order.format(ours=ours)), BODY, [OTHER, SECRET], now=NOW)


@pytest.mark.parametrize(
    ("changes", "body", "secret", "now"),
    [
        ({}, BODY, OTHER, NOW),
        ({}, BODY, [], NOW),
        ({}, BODY + b" ", SECRET, NOW),
        ({}, BODY, SECRET, NOW + 301),
        ({}, BODY, SECRET, NOW - 301),
        ({"webhook_id": "dlv_2"}, BODY, SECRET, NOW),
        ({"webhook_timestamp": str(NOW + 1)}, BODY, SECRET, NOW),
        ({"webhook_timestamp": "soon"}, BODY, SECRET, NOW),
        ({"webhook_timestamp": "9" * 5000}, BODY, SECRET, NOW),
        ({"webhook_timestamp": "²"}, BODY, SECRET, NOW),
        ({"webhook_signature": ""}, BODY, SECRET, NOW),
        ({"webhook_signature": headers()["webhook-signature"].removeprefix("v1,")}, BODY, SECRET, NOW),
        ({"webhook_signature": "v1,ünicode"}, BODY, SECRET, NOW),
    ],
)
def test_a_message_that_is_not_exactly_ours_and_new_is_not_believed(
    changes: dict[str, str], body: bytes, secret: str, now: float
) -> None:
    with pytest.raises(WebhookInvalid):
        verify(headers(**changes), body, secret, now=now)


def test_a_missing_header_is_named() -> None:
    for name in headers():
        rest = {other: value for other, value in headers().items() if other != name}
        with pytest.raises(WebhookInvalid, match=name):
            verify(rest, BODY, SECRET, now=NOW)
