"""Checks of a model for its author, as `montemq models NAME --check` makes them."""
