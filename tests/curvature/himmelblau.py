"""Himmelblau's function: nine critical points in the plane, each known to rounding."""

from __future__ import annotations

from torch import Tensor


def himmelblau(t: dict[str, Tensor]) -> Tensor:
    x, y = t["w"]
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


CRITICAL_POINTS = [
    ((3.0, 2.0), "local_minimum"),
    ((-2.805118086952745, 3.131312518250573), "local_minimum"),
    ((-3.779310253377747, -3.283185991286169), "local_minimum"),
    ((3.584428340330492, -1.848126526964404), "local_minimum"),
    ((-0.2708445906673476, -0.9230385564799816), "local_maximum"),
    ((-3.0730257507643897, -0.0813530442879675), "saddle"),
    ((0.0866775045553963, 2.884254701174776), "saddle"),
    ((3.385154183607021, 0.0738518798377493), "saddle"),
    ((-0.127961346730682, -1.953714980244577), "saddle"),
]
