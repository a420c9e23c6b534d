"""Everything needed to run montemq: the command line, private brokers and stacks, demo and test."""
