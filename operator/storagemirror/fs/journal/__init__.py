"""The journal of points on a target: `.storagemirror/journal/`. docs/journal.md tells the whole of it.

segments   records in files: written, read, checked
slots      at which point the volume is, durably
plan       where the directories of a point come from and go to, told before the point is committed
making     what a point makes, holds and writes: everything but names (step Write, and what is tried before)
naming     directories and names (steps Hold and Place), attributes of directories (step Finish)
journal    all of it: a point comes in, is committed, applied; recovery
"""
