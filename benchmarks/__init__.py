"""Measurements side by side with a reference; run by hand or by CI, never imported by the product."""
