"""Hostile requests, sent to the whole service; `python -m tests.hostile` measures each alone."""
