"""Whether a licence, by its name, allows commercial use; for bases, recordings and what is made with both.

Not legal advice: only names that are known to allow it count as allowed; all others are forbidden or unknown.
"""

from __future__ import annotations

import re
from typing import Literal

Use = Literal["allowed", "forbidden", "unknown"]
_FORBIDS = re.compile(
    r"\bNC\b|NON-?COMMERCIAL|\bND\b|NO-?DERIV|ALL RIGHTS RESERVED|PROPRIETARY|RESEARCH ONLY|PERSONAL USE|©"
)
_ALLOWS = re.compile(
    r"^(CC0(-1\.0)?|CC[ -]?ZERO|PUBLIC[- ]DOMAIN|PDM(-1\.0)?|CC[- ]BY([- ]SA)?([- ]\d\.\d)?([- ][A-Z]{2})?|"
    r"APACHE[- ]2\.0|MIT|BSD([- ][23](-CLAUSE)?)?)$"
)


def allows_commercial_use(licence: str) -> Use:
    """Whether a licence allows commercial use of what was made with it; names with additional words are unknown."""
    name = re.sub(r"\s+", " ", str(licence).strip().upper().replace("_", "-"))
    if _FORBIDS.search(name):
        return "forbidden"
    return "allowed" if _ALLOWS.match(name) else "unknown"


def commercial_use_objection(licence: str) -> str:
    """Why a licence prevents commercial use; empty where it allows it."""
    use = allows_commercial_use(licence)
    if use == "forbidden":
        return f"its licence ({licence}) forbids commercial use"
    return f"its licence ({licence or 'unknown'}) is not known to allow commercial use" * (use == "unknown")
