"""The kernel's trace: which objects and which of their bytes changed on one file system.

    trace = open_trace(root, pod_uid)     # TraceUnavailable says why not
    trace = receive_trace(root, shared)   # the same by a tracer, for a process without the privilege
    hints = trace.drain()                 # live pass: drain, syncfs, read
    hints = trace.drain(frozen=True)      # at a point: after FIFREEZE has returned
    candidates(hints, before, now, names_structure=trace.names_structure)

docs/capture.md says what is seen and what is not.
"""

from storagemirror.fs.trace.candidates import WHOLE, Seen, candidates, settled
from storagemirror.fs.trace.handed import NOT_READY, receive_trace
from storagemirror.fs.trace.hints import Hints, Range, Ranges, merged
from storagemirror.fs.trace.placed import Placed, moved, placed
from storagemirror.fs.trace.trace import INTERVAL, MEMORY, Trace, open_trace
from storagemirror.fs.trace.trust import Proof, Trust
from storagemirror.fs.trace.unavailable import TraceUnavailable

__all__ = [
    "INTERVAL",
    "MEMORY",
    "NOT_READY",
    "WHOLE",
    "Hints",
    "Placed",
    "Proof",
    "Range",
    "Ranges",
    "Seen",
    "Trace",
    "TraceUnavailable",
    "Trust",
    "candidates",
    "merged",
    "moved",
    "open_trace",
    "placed",
    "receive_trace",
    "settled",
]
