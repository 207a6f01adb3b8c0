"""Let the reference read the section `Example:` of a docstring as `Examples:`, which it knows."""

from typing import Any

import griffe

__all__ = ["Examples"]


class Examples(griffe.Extension):
    """Renames the section in every docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section of one object."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")
