"""How a number is written for people: in sentences, on pages and at the command line. Machines read JSON."""

from __future__ import annotations

import math


def number(value: float, digits: int = 4) -> str:
    """Four significant digits, or as many as told, with a true minus sign; an exponent beyond seven digits alone."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    # Adding zero makes that of minus zero.
    short = f"{value + 0.0:.{digits}g}"
    if "e" in short and abs(float(short)) < 10.0 ** max(digits, 7):
        short = f"{float(short):.{max(digits, 7)}g}"
    return short.replace("-", "−")
