"""Error classes; each is also the built-in error that a user would expect to catch."""


class OptionError(ValueError):
    """A run option has a value, or stands beside another one, that cannot work."""


class MissingExtraError(ImportError):
    """Something asked for needs an optional package that is not installed.

    Args:
        wanted: what was asked for, as the user would name it.
        extra: the extra of this package that brings what is missing.
    """

    def __init__(self, wanted: str, extra: str) -> None:
        """Name what was wanted and the extra to install."""
        super().__init__(
            f"{wanted} needs a package that is not installed: "
            f"install it with `pip install 'brain-lightning[{extra}]'`."
        )
        self.wanted = wanted
        self.extra = extra

    def __reduce__(self) -> tuple[type["MissingExtraError"], tuple[str, str]]:
        """Let the error travel between processes; its constructor takes other arguments."""
        return type(self), (self.wanted, self.extra)


class MainProcessError(RuntimeError):
    """What only the main process runs failed there, and the other processes cannot go on."""


class OtherProcessError(RuntimeError):
    """Another process failed, ended or does not answer, and this one cannot go on without it."""
