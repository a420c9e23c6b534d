"""Compile the kernels for this processor, so that the first consumer need not: part of setting up."""

import sys

from consumer.fork_server import loading

if __name__ == "__main__":
    sys.exit(loading().result() or 0)
