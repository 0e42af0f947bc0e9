"""Extreme eigenpairs and dense verdicts beside other libraries: one process a contestant, one judge for all."""
