"""Admission, aggregation rules, rounds, and the index of the chain."""
