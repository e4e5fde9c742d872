"""Exact evaluation: every example once, on any number of hosts and devices."""
