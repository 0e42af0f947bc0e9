"""Values on an axis: linear, logarithmic, and logarithmic on both sides of zero, each with round ticks.

A scale maps values to shares: 0 at its low end, 1 at its high end, monotone in between, for any finite value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Protocol

# Beyond this even a margin overflows; such values are drawn at the edge.
_LARGEST = 1e300
_LEAST_POWER, _MOST_POWER = -307.0, 308.0
# How far outside its ends a scale goes on before it stands still.
_BEYOND = 20.0
_DECADES_IN_WORDS = range(-3, 5)
_MOST_DIGITS = 6
SPANS_DECADES = 1e3
_MOST_DECADES = 16


@dataclass(frozen=True)
class Ticks:
    """Values with their labels; a label stands for `minus + label·10^power`."""

    values: tuple[float, ...]
    labels: tuple[str, ...]
    power: int = 0
    minus: str = ""

    def named(self, name: str) -> str:
        """The axis's name with what its labels leave out."""
        offset = "" if not self.minus else f" − {self.minus}" if self.minus[0] != "−" else f" + {self.minus[1:]}"
        return name + offset + (f" (×{power_of_ten(self.power)})" if self.power else "")


class Scale(Protocol):
    def share(self, value: float) -> float: ...

    def ticks(self, most: int) -> Ticks: ...


@dataclass(frozen=True)
class Linear:
    low: float
    high: float
    is_whole: bool = False

    def share(self, value: float) -> float:
        width = self.high - self.low
        if math.isinf(width):
            # The difference of two large floats of opposite sign overflows, that of their quarters does not.
            return _bounded((value / 4 - self.low / 4) / (self.high / 4 - self.low / 4))
        return _bounded((value - self.low) / width)

    def ticks(self, most: int) -> Ticks:
        return _linear_ticks(Decimal(self.low), Decimal(self.high), most, is_whole=self.is_whole)


@dataclass(frozen=True)
class Logarithmic:
    """Positive values; `low` and `high` are their decimal logarithms."""

    low: float
    high: float

    def share(self, value: float) -> float:
        if value <= 0:
            return -_BEYOND
        return _bounded((math.log10(value) - self.low) / (self.high - self.low))

    def ticks(self, most: int) -> Ticks:
        powers = _strided(math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9), most)
        if len(powers) >= 3 or (len(powers) == 2 and self.high - self.low > 1.5):
            return _decades(powers)
        return _linear_ticks(_power(self.low), _power(self.high), most, is_whole=False)


@dataclass(frozen=True)
class SymmetricLogarithmic:
    """Linear within ±10^`linear_power`, logarithmic beyond; `low` and `high` in decades, signed, from there.

    decades(v) = v/c for |v| ≤ c, else sign(v)·(1 + log₁₀(|v|/c)).
    """

    linear_power: int
    low: float
    high: float

    def decades(self, value: float) -> float:
        if value == 0:
            return 0.0
        above = math.log10(abs(value)) - self.linear_power
        return math.copysign(1 + above if above > 0 else 10.0**above, value)

    def share(self, value: float) -> float:
        return _bounded((self.decades(value) - self.low) / (self.high - self.low))

    def ticks(self, most: int) -> Ticks:
        top, bottom = math.floor(self.high + 1e-9), math.floor(-self.low + 1e-9)
        stride = max(1, math.ceil((max(top, 0) + max(bottom, 0)) / max(most - 1, 1)))
        # From the outside in, so that both ends bear a label, and none beside that of zero.
        upper = list(range(top, stride - 1, -stride))
        lower = list(range(bottom, stride - 1, -stride))
        entries = [(-_float_power(k - 1 + self.linear_power), "−" + self._label(k)) for k in lower]
        if self.low <= 0 <= self.high:
            entries.append((0.0, "0"))
        entries += [(_float_power(k - 1 + self.linear_power), self._label(k)) for k in reversed(upper)]
        return Ticks(tuple(value for value, _ in entries), tuple(label for _, label in entries))

    def _label(self, decade: int) -> str:
        return power_of_ten(decade - 1 + self.linear_power)


@dataclass(frozen=True)
class Unlabelled:
    """Shares themselves, for an axis that measures nothing."""

    def share(self, value: float) -> float:
        return _bounded(value)

    def ticks(self, most: int) -> Ticks:
        return Ticks((), ())


def linear(values: Iterable[float | None], *, margin: float = 0.06, is_whole: bool = False) -> Linear:
    """Around the values that are known, with a margin; never empty."""
    low, high = _extremes(finite(values))
    return Linear(*_widened(low, high, margin), is_whole=is_whole)


def for_positive(values: Iterable[float | None]) -> Scale:
    """Logarithmic where positive values span decades, else linear."""
    known = finite(values)
    if not known or min(known) <= 0 or min(known) > max(known) / SPANS_DECADES:
        return linear(known)
    low, high = math.log10(min(known)), math.log10(min(max(known), _LARGEST))
    margin = 0.05 * (high - low)
    return Logarithmic(max(low - margin, _LEAST_POWER), min(high + margin, _MOST_POWER))


def for_signed(values: Iterable[float | None], *, zero_tol: float = 0.0) -> Scale:
    """Linear with zero and ±`zero_tol`; logarithmic on both sides where the values beyond `zero_tol` span decades."""
    known = finite(values)
    beyond = [abs(value) for value in known if abs(value) > zero_tol]
    if not beyond or min(beyond) > max(beyond) / SPANS_DECADES:
        return linear([*known, 0.0, -zero_tol, zero_tol])
    largest = math.log10(max(beyond))
    power = max(math.floor(math.log10(min(beyond))), math.ceil(largest) - _MOST_DECADES)
    unit = SymmetricLogarithmic(power, 0.0, 1.0)
    low, high, tolerance = (unit.decades(value) for value in (min(known), max(known), zero_tol))
    return SymmetricLogarithmic(power, min(low, -tolerance) - 0.4, max(high, tolerance) + 0.4)


def finite(values: Iterable[float | None]) -> list[float]:
    """The values that can be drawn."""
    return [value for value in values if value is not None and math.isfinite(value)]


def power_of_ten(exponent: int) -> str:
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _linear_ticks(low: Decimal, high: Decimal, most: int, *, is_whole: bool) -> Ticks:
    """Multiples of 1, 2 or 5 times a power of ten within [low, high], computed exactly."""
    rough = (high - low) / max(most, 1)
    exponent = rough.adjusted()
    step = next(multiple for multiple in (1, 2, 5, 10) if Decimal(multiple).scaleb(exponent) >= rough)
    unit = Decimal(step).scaleb(exponent)
    if is_whole and unit < 1:
        unit = Decimal(1)
    first = int((low / unit).to_integral_value(ROUND_CEILING))
    last = int((high / unit).to_integral_value(ROUND_FLOOR))
    exact = [index * unit for index in range(first, last + 1)]
    if not exact:
        return Ticks((), ())
    labels, power, minus = _labels(exact, unit)
    return Ticks(tuple(float(value) for value in exact), labels, power, minus)


def _labels(exact: Sequence[Decimal], unit: Decimal) -> tuple[tuple[str, ...], int, str]:
    minus = ""
    # 2.30258509 and 2.30258511 are read as what they have in common and a difference.
    if max(abs(value) for value in exact).adjusted() - unit.adjusted() >= _MOST_DIGITS:
        offset = exact[0]
        minus = signed(f"{offset.normalize():f}" if -4 <= offset.adjusted() <= 12 else f"{offset.normalize():e}")
        exact = [value - offset for value in exact]
    largest = max(abs(value) for value in exact)
    magnitude = largest.adjusted() if largest else 0
    power = magnitude if not -4 < magnitude < 6 else 0
    decimals = max(power - _exponent(unit), 0)
    return tuple(signed(f"{value.scaleb(-power):,.{decimals}f}") for value in exact), power, minus


def signed(digits: str) -> str:
    """With a true minus sign, and none before zero."""
    return digits.replace("-", "−") if digits.strip("-0.,") else digits.lstrip("-")


def _exponent(unit: Decimal) -> int:
    exponent = unit.normalize().as_tuple().exponent
    assert isinstance(exponent, int)  # noqa: S101 - a step is finite
    return exponent


def _decades(powers: Sequence[int]) -> Ticks:
    plain = all(power in _DECADES_IN_WORDS for power in powers)
    labels = tuple(f"{Decimal(1).scaleb(power):,f}" if plain else power_of_ten(power) for power in powers)
    return Ticks(tuple(_float_power(power) for power in powers), labels)


def _strided(first: int, last: int, most: int) -> list[int]:
    stride = max(1, math.ceil((last - first + 1) / max(most, 1)))
    return [power for power in range(first, last + 1) if power % stride == 0]


def _power(logarithm: float) -> Decimal:
    return Decimal(10) ** Decimal(logarithm)


def _float_power(exponent: int) -> float:
    return float(Decimal(1).scaleb(exponent))


def _bounded(share: float) -> float:
    return share if -_BEYOND < share < _BEYOND else math.copysign(_BEYOND, share)


def _extremes(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return 0.0, 0.0
    return max(min(values), -_LARGEST), min(max(values), _LARGEST)


def _widened(low: float, high: float, margin: float) -> tuple[float, float]:
    low, high = min(low, _LARGEST), max(high, -_LARGEST)
    room = margin * (high / 2 - low / 2) * 2
    if room <= 1e-12 * max(abs(low), abs(high)):
        room = 0.1 * max(abs(low), abs(high)) or 1.0
    return low - room, high + room
