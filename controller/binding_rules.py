"""What bindings must be like, so that every namespace has one repository, one folder in it, and no doubt about it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from adapters.git_environment import check_branch, check_path, check_url
from specs.errors import Stalled

if TYPE_CHECKING:  # settings ask here
    from controller.settings import BindingSettings, Settings

ALL = "*"
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def faults(settings: Settings) -> Iterator[str]:
    """Say what is wrong with the bindings of some settings, a sentence each."""
    if not settings.bindings:
        return
    if settings.repository:
        yield (
            "repository and [[bindings]] are both given: make the repository a binding, with namespaces = "
            f'["{ALL}"] if it is for all that no other one names'
        )
    for number, binding in enumerate(settings.bindings, 1):
        for fault in (*_odd_names(binding), *_unsafe(binding)):
            yield f"binding {number}: {fault}"
    yield from _twice(settings.bindings)
    yield from _torn(settings.bindings)
    watched = settings.kubernetes.namespaces if settings.kubernetes else []
    for name in (name for binding in settings.bindings for name in binding.namespaces if watched):
        if name not in (*watched, ALL):
            yield f"namespace {name} is bound, but is none of kubernetes.namespaces, so nobody watches it"


def _odd_names(binding: BindingSettings) -> Iterator[str]:
    for name in binding.namespaces:
        if name != ALL and not _NAMESPACE.fullmatch(name):
            yield f"{name!r} is no namespace; there are no patterns, only names and one {ALL} for all others"
    if ALL in binding.namespaces and len(binding.namespaces) > 1:
        yield f"{ALL} stands for all namespaces, so it stands alone"


def _unsafe(binding: BindingSettings) -> Iterator[str]:
    folder = binding.prefix.strip("/")
    for check, value in ((check_url, binding.repository), (check_branch, binding.branch), (check_path, folder)):
        try:
            if value or check is not check_path:
                check(value)
        except Stalled as error:
            yield error.message


def _twice(bindings: Sequence[BindingSettings]) -> Iterator[str]:
    owners: dict[str, list[int]] = {}
    for number, binding in enumerate(bindings, 1):
        for name in binding.namespaces:
            owners.setdefault(name, []).append(number)
    for name, numbers in owners.items():
        if len(numbers) > 1:
            yield f"namespace {name} is in bindings {' and '.join(map(str, numbers))}; leave it in one of them"


def _torn(bindings: Sequence[BindingSettings]) -> Iterator[str]:
    """One repository is fetched once, so there is one way into it."""
    first: dict[tuple[str, str], tuple[int, BindingSettings]] = {}
    for number, binding in enumerate(bindings, 1):
        before, other = first.setdefault((binding.repository, binding.branch), (number, binding))
        if (binding.credentials, binding.forge) != (other.credentials, other.forge):
            both = f"bindings {before} and {number} are in the same repository and branch"
            yield f"{both}; give them the same credentials and forge"
