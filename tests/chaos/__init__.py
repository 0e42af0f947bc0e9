"""Everything is killed at random and comes back; no job is lost, doubled, stuck or answered wrongly for it."""
