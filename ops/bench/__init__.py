"""Measurements; ratios within one run are what counts, because machines are noisy."""
