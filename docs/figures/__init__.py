"""The figures of the documentation, drawn from results."""
