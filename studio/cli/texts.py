"""Text that comes from files and from the command line, checked to be sound Unicode."""

from pathlib import Path

from studio.errors import FormatError, StudioError


def read_text(path: Path) -> str:
    r"""Read a UTF-8 file as it is: line ends stay what they are, `\r\n` included.

    Raises
    ------
    FormatError
        If the file cannot be read or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror}", path=path) from error
    except UnicodeDecodeError as error:
        raise FormatError(
            f"not UTF-8 text (byte {error.start})", path=path, remedy="Save it as UTF-8"
        ) from error


def check_text(text: str, *, path: Path | None = None, where: str | None = None) -> str:
    """Return the text if it can be encoded as UTF-8, which half of a surrogate pair cannot.

    Raises
    ------
    StudioError
        If it cannot.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise StudioError(
            f"not valid Unicode text (character {error.start})", path=path, where=where
        ) from error
    return text
