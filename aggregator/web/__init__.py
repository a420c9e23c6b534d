"""What the aggregator serves over HTTP."""
