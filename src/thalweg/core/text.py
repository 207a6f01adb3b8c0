"""Text that can be written: what a shell or a JSON escape hands on may hold half a character."""

__all__ = ["encodes"]


def encodes(text: str) -> bool:
    r"""Return whether UTF-8 exists for a text: not for half of a surrogate pair.

    Example:
        >>> encodes("\u00e9"), encodes("\ud800")
        (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
