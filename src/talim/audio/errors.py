"""The error of audio that cannot be used."""

from talim.errors import TalimError


class AudioError(TalimError):
    """An audio file or signal that cannot be used; the message names the file and the reason."""
