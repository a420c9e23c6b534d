"""Compile the kernels for this processor: part of setting up, so that no consumer waits for it."""

import sys

from consumer.fork_server import loading

if __name__ == "__main__":
    sys.exit(loading().result() or 0)
