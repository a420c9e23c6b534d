"""How reliably a network of links that fail by chance connects its nodes: a model for montemq."""
