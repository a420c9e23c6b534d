"""Computes chunks on spare machines: the agent, its slots, and the built-in models."""
