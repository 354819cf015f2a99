"""What a licence's name allows: the one place that decides it, for bases, recordings and what is made with both.

This is no legal advice: only what is plainly allowed counts as allowed; everything else is forbidden or unknown.
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
    """Whether a licence's name allows commercial use of what was made with it. A name with more words is unknown."""
    name = re.sub(r"\s+", " ", str(licence).strip().upper().replace("_", "-"))
    if _FORBIDS.search(name):
        return "forbidden"
    return "allowed" if _ALLOWS.match(name) else "unknown"


def commercial_use_objection(licence: str) -> str:
    """Why a licence keeps from commercial use, in words; empty where it allows it."""
    use = allows_commercial_use(licence)
    if use == "forbidden":
        return f"its licence ({licence}) forbids commercial use"
    return f"its licence ({licence or 'unknown'}) is not known to allow commercial use" * (use == "unknown")
