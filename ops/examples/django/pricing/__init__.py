"""Prices of Asian options: a form submits a run, a page follows it."""
