"""Random input for as long as it is wanted: `python -m tests.fuzz operators --minutes 10`, `… readers --count 100000`."""
