"""An application with one volume. Runs in a pod (`python3 -c`), with the standard library alone.

    ledger.py SIDE DIRECTORY PORT LINES-A-SECOND

Appends a line `NUMBER SIDE TIME;` (TIME: seconds since 1970; the semicolon tells a whole line from a torn one) to
DIRECTORY/ledger so many times a second, each made durable before it counts, going on from the last whole line that it
finds. Whoever connects to PORT is told SIDE and the last line that is durable: a number that a client has heard is one
that the application has acknowledged.
"""

from __future__ import annotations

import os
import signal
import socketserver
import sys
import threading
import time


def open_ledger(path: str) -> tuple[int, int]:
    """A descriptor to append with, and the number that an earlier life came to. A torn last line is closed first."""
    ledger = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    with open(path, "rb") as file:
        text = file.read()
    if text and not text.endswith(b"\n"):
        os.write(ledger, b"\n")
    whole = [line.split() for line in text.split(b"\n") if line.endswith(b";")]
    return ledger, max((int(words[0]) for words in whole), default=0)


def main(side: str, directory: str, port: str, lines_a_second: str) -> None:
    """Until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    ledger, number = open_ledger(os.path.join(directory, "ledger"))
    last = b"0 - 0;\n"

    class Tell(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(side.encode() + b" " + last)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    server = Server(("", int(port)), Tell)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"{side}: from line {number + 1}", flush=True)
    while not stop.wait(1 / float(lines_a_second)):
        number += 1
        line = f"{number} {side} {time.time():.6f};\n".encode()
        os.write(ledger, line)
        os.fsync(ledger)
        last = line
    print(f"{side}: stopped after line {number}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
