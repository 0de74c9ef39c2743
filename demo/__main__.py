"""`python -m demo up|down`: a volume is mirrored on a real cluster, the copy proven, the application moved and home.

Without KUBECONFIG a cluster of three nodes is made on this machine, and the application's node loses its power. With
KUBECONFIG it runs there, and the application is moved by a planned failover. Then a Restore brings it home:

    IMAGE          the product's image, pullable by the nodes (needed)
    STORAGE_CLASS  of both claims (default: the cluster's default class)
    DEMO_IMAGE     nginx with Debian's documentation, pullable (`python -m tests.image demo` builds one); default:
                   the public nginx and Debian images, which then install the documentation from Debian's mirrors
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from demo import place, story
from demo.kube import Kube
from demo.manifests import NAMESPACE
from demo.screen import Failed, Screen


def up(asked: place.Wish, screen: Screen) -> None:
    """Make everything, prove the copy, move the application to it, and bring it home."""
    start = time.monotonic()
    where = place.given(asked, screen) if asked.kubeconfig else place.own(screen)
    story.tell(where, screen)
    screen.line(f"Done in {time.monotonic() - start:.0f} s.")


def down(asked: place.Wish, screen: Screen) -> None:
    """Take everything away: the demo's own cluster, or on a given one what the demo put there."""
    if asked.kubeconfig:
        with screen.step("The demo and its operator") as step:
            kube = Kube(place.find("kubectl"), place.find("helm"), asked.kubeconfig, NAMESPACE)
            story.take_down(kube)
            step.result = "gone; the CustomResourceDefinitions stay, as Helm keeps them"
    else:
        with screen.step("The demo's cluster") as step:
            place.cluster(step, "down")
            step.result = "gone"


def main() -> int:
    """Returns 0 only when everything was as it should be."""
    parser = argparse.ArgumentParser(
        prog="python -m demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=["up", "down"])
    verb = parser.parse_args().verb
    screen = Screen()
    try:
        asked = place.wish(dict(os.environ), needs_image=verb == "up")
        (up if verb == "up" else down)(asked, screen)
    except Failed as e:
        screen.line(f"\ndemo: {e.message}")
        if e.look:
            screen.line("\nLook here:")
            for command in e.look:
                screen.line(f"  {command}")
        return 1
    except KeyboardInterrupt:
        screen.line("\ndemo: interrupted; `make demo` starts anew, `make demo-down` takes it down")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
