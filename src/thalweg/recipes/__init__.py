"""Starting points: functions that return a Recipe. Their arguments are their command-line options.

A file of yours with a function `recipe(...) -> Recipe` stands beside these:
`thalweg train file.py`.
"""

import ast
from pathlib import Path

__all__ = ["summaries"]


def summaries() -> dict[str, str]:
    """Return the recipes with their first line, without importing them.

    Example:
        >>> "quickstart" in summaries()
        True
    """
    found = {}
    for file in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(file.read_text())
        if any(isinstance(node, ast.FunctionDef) and node.name == "recipe" for node in tree.body):
            found[file.stem] = (ast.get_docstring(tree) or "").split("\n")[0]
    return found
