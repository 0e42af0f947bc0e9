"""What every answer forbids a browser."""

from __future__ import annotations

from collections.abc import Mapping

# The strictest policy is the default; SVG answers relax it for their own style element.
STANDARD_HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
