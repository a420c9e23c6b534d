"""What crosses the wire, and nothing else; `protocol/README.md` is the specification."""
