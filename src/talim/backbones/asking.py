"""What is asked of a base before it is loaded: refused in one line, or settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from talim.backbones import options
from talim.backbones.sources import family_named

if TYPE_CHECKING:
    from talim.music import Music


def settle(
    base: str, given: Mapping[str, Any], music: Sequence[Music], predicted: bool = False
) -> dict[str, Any]:
    """Every option of a base with its value, given or usual; no weights are read.

    UsageError for an option that it has not, and for beats and chords that it cannot hear.
    """
    family = family_named(base)
    options.check_music(family, base, music, predicted)
    return options.settled(family, base, given)
