"""For receivers: whether a message comes from the service, is whole, and is new."""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterable, Mapping

from saddlescope.client.answers import parse
from saddlescope.client.errors import WebhookInvalid
from saddlescope.contract.webhooks import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, WebhookMessage, sign

TOLERANCE_SECONDS = 300


def verify(
    headers: Mapping[str, str],
    body: bytes | str,
    secret: str | Iterable[str],
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
    now: float | None = None,
) -> WebhookMessage:
    """The message, once it is known to come from the service (Standard Webhooks).

    A message may come more than once: its `webhook-id` header is the same every time.

    Args:
        headers: of the request; upper and lower case do not matter.
        body: as it arrived, before any parsing.
        secret: `whsec_…`, or several of which one has to fit.
        tolerance_seconds: how far the sender's clock may be from ours; what is older may be a replay.
        now: seconds since 1970, instead of this machine's clock.

    Raises:
        WebhookInvalid: if no signature fits, a header is missing, or the time is off.
        UnreadableAnswer: if the signed body is no message that this version knows.
        ValueError: if a secret is not one.
    """
    found = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, sent, signatures = (found[name] for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER))
    except KeyError as missing:
        raise WebhookInvalid(f"the header {missing.args[0]} is missing") from None
    if not sent.isascii() or not sent.isdigit() or len(sent) > 15:
        raise WebhookInvalid(f"the header {TIMESTAMP_HEADER} is no number of seconds")
    if abs((time.time() if now is None else now) - int(sent)) > tolerance_seconds:
        raise WebhookInvalid(f"the message is more than {tolerance_seconds:g} seconds off; check the clocks")
    content = body.encode() if isinstance(body, str) else body
    secrets = [secret] if isinstance(secret, str) else list(secret)
    expected = [sign(one, message_id=message_id, timestamp=int(sent), body=content).encode() for one in secrets]
    given = [signature.encode() for signature in signatures.split()]
    # Every pair is compared, each in constant time.
    matches = [hmac.compare_digest(ours, theirs) for ours in expected for theirs in given]
    if not any(matches):
        raise WebhookInvalid("no signature of the message fits the secret")
    return parse(WebhookMessage, content)
