"""Whether a lapsed lease means a dead worker, or only that the database was away for everyone."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import final


@final
class Settling:
    """Moments of the database's clock at which it answered, one a round; settled after a whole lease without a gap.

    Where everything was down together, or the database was away, or its clock was set forward, every lease has lapsed and
    every worker may live: they get the time of a lease to renew theirs. Half a lease without an answer is a gap;
    a worker that renews every few seconds cannot lose its lease in less.
    """

    def __init__(self, lease_seconds: float) -> None:
        self._lease = timedelta(seconds=lease_seconds)
        self._since: datetime | None = None
        self._last: datetime | None = None

    def saw(self, moment: datetime) -> bool:
        """The database answered at `moment`; gives whether it is settled."""
        if self._since is None or self._last is None or not timedelta() <= moment - self._last <= self._lease / 2:
            self._since = moment
        self._last = moment
        return moment - self._since > self._lease
