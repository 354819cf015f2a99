"""The errors of audio that cannot be used."""

from talim.errors import TalimError


class AudioError(TalimError):
    """An audio file or signal that cannot be used; the message names the file and the reason."""


class TooLongError(AudioError):
    """A file that is longer than asked for; `length` says how long it is, such as "7200.0 s"."""

    def __init__(self, path: object, length: str) -> None:
        super().__init__(f"{path}: is {length} long")
        self.length = length
