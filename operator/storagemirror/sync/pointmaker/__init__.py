"""Points of the source: crash-consistent states of its volume, found while the application writes.

A point is made so (each step's reason is in the module that does it):

1. *Live passes* (`passing`): take the hints of what changed, look at it, `syncfs`, read it, send it; again, until
   little is left.
2. *Freeze* (through the guard), take the hints again, look, and read what changed since the passes into memory; thaw.
3. Send that, with the names of all directories that changed, and the end of the point.

What the last point held is known from memory (`catalogue`): objects by inode and generation, their names, the ctime at
which they were read, and the sums of their blocks.
"""
