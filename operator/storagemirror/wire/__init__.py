"""The protocol between two sync agents, without I/O."""
