"""The commands of `montemq`, one module for those that belong together."""
