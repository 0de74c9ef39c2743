"""storagemirror: a live copy of a volume, and an application that comes back by itself when its node dies."""

__version__ = "0.1.0.dev0"
