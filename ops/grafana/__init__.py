"""Dashboards for Grafana as code; `python -m ops.grafana` writes the files that are checked in."""
