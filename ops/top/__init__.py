"""Runs and consumers live in a terminal; it asks the aggregator over AMQP and changes nothing."""
