"""The loop and its types. `protocols.py` is the first file to read."""

__all__: list[str] = []
