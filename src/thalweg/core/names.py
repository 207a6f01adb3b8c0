"""Names: of recorded parts (Thalweg's public ones, and one recipe file), and of runs."""

import hashlib
import importlib
import importlib.util
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from thalweg.errors import StateError, did_you_mean

__all__ = ["called", "finder", "home_folder", "load_file"]


def home_folder() -> Path:
    """Return `$THALWEG_HOME`, or `./runs`."""
    return Path(os.environ.get("THALWEG_HOME", "runs")).expanduser()


def called(run: Path) -> str:
    """Return what a person writes in a shell to name a run: its name at home, else its path.

    Example:
        >>> called(Path("elsewhere/my run"))
        "'elsewhere/my run'"
    """
    at_home = run.absolute().parent == home_folder().absolute()
    return shlex.quote(run.name if at_home else str(run))


def load_file(path: Path) -> ModuleType:
    """Return the module of a recipe file, under a name made from its content.

    The name is the same wherever a copy of the file lies, so a record that names its classes can
    be read with the copy in the run's folder.
    """
    digest = hashlib.blake2b(path.read_bytes(), digest_size=6).hexdigest()
    name = f"thalweg_recipe_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def finder(file: Path | None = None) -> Callable[[str], Any]:
    """Return the lookup of `module:name` for records: public parts, and the recipe file if any."""
    extra = load_file(file) if file is not None else None

    def find(name: str) -> Any:
        module_name, _, part = name.partition(":")
        if extra is not None and module_name == extra.__name__:
            if hasattr(extra, part):
                return getattr(extra, part)
        elif module_name.split(".")[0] == "thalweg" and importlib.util.find_spec(module_name):
            module = importlib.import_module(module_name)
            if part in getattr(module, "__all__", ()):
                return getattr(module, part)
            raise _unknown(name, getattr(module, "__all__", ()))
        raise _unknown(name, ())

    return find


def _unknown(name: str, known: Any) -> StateError:
    return StateError(
        f"the recorded name '{name}'",
        expected="a public part of thalweg, or one of the run's recipe file",
        where="the record of the run",
        write=did_you_mean(name.split(":")[-1], known)
        if known
        else "define it in the recipe file that is given to 'thalweg train'",
    )
