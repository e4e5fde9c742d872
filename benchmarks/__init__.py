"""Measurements beside other programs, as ratios from one run."""
