"""How fast a caller may ask, counted on the broker for every process of the service together."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import final

import structlog
from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter

from service.problems import RateLimited

# Counting must not hold up what it counts: a broker that is silent for this long is left alone for a while.
_PATIENCE_SECONDS = 0.25
_REST_SECONDS = 5.0
_SCHEMES = ("redis://", "rediss://", "valkey://", "valkeys://", "redis+socket://")

log = structlog.get_logger("service")


@dataclass(frozen=True)
class Budget:
    """What is left to one caller, as the headers of draft-ietf-httpapi-ratelimit-headers tell it."""

    policy: str
    limit: int
    window_seconds: int
    remaining: int
    reset_seconds: int
    is_spent: bool

    def headers(self) -> Mapping[str, str]:
        return {
            "ratelimit-policy": f'"{self.policy}";q={self.limit};w={self.window_seconds}',
            "ratelimit": f'"{self.policy}";r={self.remaining};t={self.reset_seconds}',
        }

    def hold(self) -> None:
        """Raises RateLimited if nothing is left."""
        if self.is_spent:
            raise RateLimited(
                f"At most {self.limit} requests are taken in {self.window_seconds} seconds; try again in "
                f"{self.reset_seconds}.",
                headers={"retry-after": str(self.reset_seconds)},
            )


@final
class Rates:
    """Sliding windows on the broker. While it does not answer nobody is limited, and the log says so."""

    def __init__(self, broker_url: str) -> None:
        self._limiter: SlidingWindowCounterRateLimiter | None = None
        if broker_url.startswith(_SCHEMES):
            storage = storage_from_string(
                broker_url.replace("redis+socket://", "redis+unix://", 1),  # kombu's word for it, and redis-py's
                wrap_exceptions=True,
                key_prefix="saddlescope-rates",
                socket_timeout=_PATIENCE_SECONDS,
                socket_connect_timeout=_PATIENCE_SECONDS,
            )
            self._limiter = SlidingWindowCounterRateLimiter(storage)
        else:
            log.warning("rates_not_counted", reason="the broker is neither Redis nor Valkey")
        self._rests_until = 0.0

    def spend(self, policy: str, who: str, *, rate: str) -> Budget | None:
        """Count one request of a caller; None where it cannot be counted."""
        if self._limiter is None or time.monotonic() < self._rests_until:
            return None
        item = parsed_rate(rate)
        try:
            is_within = self._limiter.hit(item, policy, who)
            resets_at, remaining = self._limiter.get_window_stats(item, policy, who)
        except StorageError as failure:
            self._rests_until = time.monotonic() + _REST_SECONDS
            log.warning("rates_not_counted", reason=type(failure.storage_error).__name__)
            return None
        return Budget(
            policy=policy,
            limit=item.amount,
            window_seconds=item.get_expiry(),
            remaining=remaining,
            reset_seconds=max(1, math.ceil(resets_at - time.time())),
            is_spent=not is_within,
        )


@cache
def parsed_rate(text: str) -> RateLimitItem:
    """Raises ValueError unless it is like `600/minute` or `100 per 10 seconds`."""
    return parse(text)
