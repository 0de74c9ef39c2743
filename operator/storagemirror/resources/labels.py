"""Labels and annotations that the operator sets on what it makes."""

from __future__ import annotations

APP_NAME = "app.kubernetes.io/name"
APP_COMPONENT = "app.kubernetes.io/component"
APP_MANAGED_BY = "app.kubernetes.io/managed-by"
STORAGEMIRROR = "storagemirror"
AGENT = "agent"

PAIR = "storagemirror.io/pair"
"""UID of the pair: unlike its name it is never given out twice."""
PAIR_NAME = "storagemirror.io/pair-name"
VOLUME = "storagemirror.io/volume"
ROLE = "storagemirror.io/role"

AGENT_SELECTOR = f"{APP_NAME}={STORAGEMIRROR},{APP_COMPONENT}={AGENT}"
"""Every object that belongs to an agent, of every pair."""

INSTANCE = "storagemirror.io/instance"
"""Annotation of an agent's pod, and of its order: the number."""
SETTINGS = "storagemirror.io/settings"
"""Annotation of an agent's pod: digest of the part of the spec it was made from; another one means: make it anew."""
WRITER = "storagemirror.io/writer"
"""Annotation of an agent's pod: digest of what it took over from the pod that writes the source."""
APART = "storagemirror.io/apart"
"""Annotation of a target agent's pod: how it is kept off the source's node (`Required`, `Preferred`)."""
NODE = "storagemirror.io/node"
"""Annotation of a source agent's pod: the only node that it may go to."""
IDLE_SINCE = "storagemirror.io/idle-since"
"""Annotation of a source agent's order: since when no pod has been using the source, RFC 3339."""
NOWHERE_ELSE = "storagemirror.io/nowhere-else"
"""Annotation of a target agent's order: `true` once the scheduler has found no node but the source's."""
TRAITS = "storagemirror.io/writer-traits"
"""Annotation of an order: what agents take over from the writer, for the time when there is none (JSON)."""
CLAIMS = "storagemirror.io/claims"
"""Annotation of an order: the UIDs of the claims it was last written for, source/target."""
FRESH_FROM = "storagemirror.io/fresh-from"
"""Annotation of an order: the first number that worked with these claims; what older ones said is of other volumes."""
NOT_AFTER = "storagemirror.io/not-after"
"""Annotation of a certificate's Secret: when it stops being valid, RFC 3339."""
ISSUER = "storagemirror.io/issuer"
"""Annotation of a certificate's Secret: digest of the CA certificate that signed it."""

LIVE = "storagemirror.io/live"
"""Label of the pods of the live side, its value the pair's name: what a Service of strategy Label selects."""
END_PROOF = "storagemirror.io/end-proof"
"""Finalizer of a writer while its side is fenced; also the label that names the pair's UID, to find it by."""
NUDGE = "storagemirror.io/nudge"
"""Annotation of a workload: changed to wake its controller out of its back-off."""
PRIVILEGED_AGENTS = "storagemirror.io/privileged-agents"
"""Annotation of a namespace, set by its administrator: `true` where agents may have what it takes to freeze volumes."""
AUTOMATIC = "storagemirror.io/automatic"
"""Label of a Failover that the operator made."""

LABEL_LIMIT = 63


def selector(labels: dict[str, str]) -> str:
    """`labels` as a label selector of the API."""
    return ",".join(f"{k}={v}" for k, v in sorted(labels.items()))
