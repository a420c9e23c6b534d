"""What the back-test model is made of: prices, strategies, the bootstrap, and their figures."""
