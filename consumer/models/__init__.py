"""The built-in models, one per file, found through the entry points `montemq.models`."""
