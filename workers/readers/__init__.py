"""Readers of hostile bytes, one a format: every size is checked before it is used, nothing is ever executed."""
