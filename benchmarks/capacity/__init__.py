"""What a job costs, measured, and from it what a number of checkpoints a day needs, simulated (docs/scaling.md)."""
