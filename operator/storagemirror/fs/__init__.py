"""The file system as the engine sees it: names are bytes, and no path leaves the volume."""
