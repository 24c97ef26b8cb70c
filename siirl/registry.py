"""One registry per kind of component: a new component is one new file with a decorated class or function.

A component registered as ``my-policy`` is looked for in the module ``my_policy`` of its package first, so that naming
one component does not import all the others; only then is every module of the package imported.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


def did_you_mean(given: str, allowed: list[str]) -> str:
    """A hint such as `` Did you mean 'libero'?``, or an empty string when nothing is close."""
    close = difflib.get_close_matches(given, allowed, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


class Registry(Generic[T]):
    """Components of one kind (env, policy, …), found by name in one package.

    Args:
        kind: what a component is called in error messages, e.g. ``"policy"``.
        package: the dotted package whose modules hold the components.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._components: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that makes a class or function known under ``name``."""

        def add(component: T) -> T:
            assert name not in self._components, f"{self.kind} {name!r} is registered twice"
            self._components[name] = component
            return component

        return add

    def names(self) -> list[str]:
        """Every registered name, after importing every module of the package."""
        for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        return sorted(self._components)

    def get(self, name: str) -> T:
        """The component called ``name``.

        Raises:
            ValueError: nothing is registered under that name.
        """
        if name not in self._components:
            modules = {m.name for m in pkgutil.iter_modules(importlib.import_module(self.package).__path__)}
            if (module := name.replace("-", "_")) in modules:
                importlib.import_module(f"{self.package}.{module}")
        if name not in self._components and name not in (known := self.names()):
            raise ValueError(f"unknown {self.kind} {name!r}; allowed: {', '.join(known)}.{did_you_mean(name, known)}")
        return self._components[name]
