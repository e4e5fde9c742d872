"""Counts, tables and plots of the costs and the results of the networks."""
