"""Random input for as long as it is given: `python -m tests.fuzz operators --minutes 10`."""
