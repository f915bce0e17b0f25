"""Admission, pipelines, rounds, and the index of the chain."""
