"""Which version of this package runs."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

__all__ = ["VERSION"]


def _installed() -> str:
    try:
        return version("sidemeter")
    except PackageNotFoundError:  # run from a source tree
        return "0"


VERSION: Final = _installed()
