"""Networks that stand on plateaus, and what becomes of them with and without the way out."""
