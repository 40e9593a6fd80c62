"""One comment for each purpose on a pull request, whoever says it and how often: found again by a hidden marker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from adapters.forge_http import ForgeClient, Refused, same_text


@dataclass(frozen=True)
class Comment:
    """A comment as its forge lists it; ``path`` is where it can be changed and removed."""

    path: str
    author: str
    body: str


@dataclass(frozen=True)
class StickyComments:
    """The comments of one pull request: ``path`` takes new ones, ``verb`` changes one, ``read`` gives all in order."""

    client: ForgeClient
    path: str
    verb: str
    read: Callable[[], Iterable[Comment]]

    def say(self, text: str, *, marker: str) -> None:
        """Put one comment there, or change the one that ends with ``marker``; extra ones of the same author go."""
        body = f"{text.rstrip()}\n\n{marker}\n"
        found, said = self._marked(marker), False
        if not found:
            said = self._add(body)
            # Another controller may have said something in the same moment: of several the first stays, whoever looks.
            found = self._marked(marker)
            us = {comment.author for comment in found if same_text(comment.body, body)}
            found = [comment for comment in found if comment.author in us]
        kept = next((comment for comment in found if self._says(comment, body)), None)
        if kept is None and not said:
            self._add(body)
        for extra in found:
            if kept is not None and extra is not kept and extra.author == kept.author:
                self._remove(extra)

    def _marked(self, marker: str) -> Sequence[Comment]:
        return [comment for comment in self.read() if comment.body.rstrip().endswith(marker)]

    def _add(self, body: str) -> bool:
        self.client.send("POST", self.path, {"body": body})
        return True

    def _says(self, comment: Comment, body: str) -> bool:
        """Let it say ``body``; False where it is somebody else's, who copied our marker."""
        if same_text(comment.body, body):
            return True
        try:
            self.client.send(self.verb, comment.path, {"body": body})
        except Refused:
            return False
        return True

    def _remove(self, comment: Comment) -> None:
        try:
            self.client.send("DELETE", comment.path)
        except Refused as error:
            if error.status != 404:
                raise
