"""What of a volume is mirrored, and what becomes of what only the target has: parts of `spec.mirror`."""

from __future__ import annotations

from pydantic import Field

from storagemirror.api.durations import Age
from storagemirror.api.model import ApiModel, rule, rules
from storagemirror.terms import OrphanPolicy

MAX_RULES = 100
MAX_PATTERN = 256


class MirrorRule(ApiModel):
    """One pattern, to include or to exclude."""

    model_config = rules(
        rule("has(self.include) != has(self.exclude)", "a rule says either include or exclude"),
        rule(
            "!(has(self.exclude) ? self.exclude : self.include).startsWith('!')",
            "a rule does not begin with '!': say include instead of exclude (a name that begins so: \\!)",
        ),
        rule(
            "!(has(self.exclude) ? self.exclude : self.include).startsWith('#')",
            "a rule that begins with '#' would be a comment (a name that begins so: \\#)",
        ),
    )

    include: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_PATTERN,
        description="What matches this pattern of .gitignore is mirrored, whatever rules before it say.",
    )
    exclude: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_PATTERN,
        description="What matches this pattern of .gitignore is left out: not sent, and left alone on the target. "
        "cache/ is any directory of that name, /cache the one at the top, *.tmp any name that ends so.",
    )


class Orphans(ApiModel):
    """What becomes of an entry that the target has and the source has not."""

    model_config = rules(
        rule(
            "!has(self.olderThan) || self.policy in ['Delete', 'Move']",
            "olderThan says when orphans go; with Keep and Report none does",
            field=".olderThan",
        ),
    )

    policy: OrphanPolicy = Field(
        default=OrphanPolicy.DELETE,
        description="Delete (default): it is deleted, so that both sides are equal. Keep: it stays, and is counted in "
        "status.volumes[].leftAlone. Report: it stays, and the first names are told there too. Move: it is moved to "
        ".storagemirror/orphans/TIME/ on the target, with the path that it had; nobody deletes it there.",
    )
    older_than: Age | None = Field(
        default=None,
        description="Delete and Move: only what was not modified for so long, such as 12h or 30d, by the target's "
        "clock; a directory goes when all that is in it is so old. The rest stays and is counted.",
    )
