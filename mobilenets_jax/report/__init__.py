"""Counts, tables and plots of what the networks cost and what they reach."""
