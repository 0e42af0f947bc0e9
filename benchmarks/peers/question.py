"""What every contestant is asked, in numbers."""

PAIRS_AT_EACH_END = 2
"""The lowest two and the highest two: λ_min, λ_max and one more at either end, four pairs in all."""

RESIDUAL_RTOL = 1e-3
"""‖Hv − λv‖ ≤ this · max|λ| for unit v."""

TARGET_RATIO = 0.5
"""Our time over the best peer's must not be above it."""

NUM_ROUNDS = 5

NUM_THREADS = 2

LIMIT_SECONDS = 30.0
"""A solve that takes longer has not answered."""
