"""What a runner locks itself into before it reads a byte, and the proof that the lock holds here."""
