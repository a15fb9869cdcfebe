"""The folders that are one machine's buckets: the service's own, and one for each of the buckets of others.

Each signs its links with a secret of its own: a link need not say which folder it is of, and opens nothing in another.
"""

import hmac
from collections.abc import Collection
from pathlib import Path

from core import destination
from core.errors import InvalidArgument
from core.local.object_store import FolderObjectStore, FoundFile


class Folders:
    """Below `root`. Links into the buckets that are not among those `opened` lead to nothing."""

    def __init__(self, root: Path, *, base_url: str, secret: bytes, opened: Collection[str]) -> None:
        self._root = root
        self._base_url = base_url
        self._secret = secret
        self.own = FolderObjectStore(root / "objects", base_url=base_url, secret=secret)
        self._opened = (self.own, *map(self.bucket, opened))

    def bucket(self, name: str) -> FolderObjectStore:
        """Somebody else's. Raises InvalidArgument for what is no bucket's name, and might be a path."""
        if not destination.is_bucket(name):
            raise InvalidArgument("The bucket's name is not valid.", details={"field": "destination.bucket"})
        secret = hmac.digest(self._secret, name.encode(), "sha256")
        return FolderObjectStore(self._root / "destinations" / name, base_url=self._base_url, secret=secret)

    def open_link(self, token: str, key: str) -> FoundFile | None:
        """As FolderObjectStore has it, whichever folder the link is of."""
        return next((found for folder in self._opened if (found := folder.open_link(token, key))), None)
