"""The engine: scan, compare, send, apply."""
