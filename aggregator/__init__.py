"""Combines partials into results: ledger, store, estimates, service and metrics."""
