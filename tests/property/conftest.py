"""Hypothesis draws the same examples every time, and takes the time that they need."""

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=200)
settings.load_profile("fixed")
