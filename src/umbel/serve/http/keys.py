"""Who may do what: bearer keys, kept as hashes, with scopes."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import final

from umbel import durable
from umbel.errors import UserError, nearest

PREFIX = "umbel_"  # so that a key that leaks can be searched for
MAKE = "make one with `umbel key FILE NAME --scope read`"


class Scope(StrEnum):
    """What a key allows."""

    READ = "read"    # rank, predict, look up; who users are is told by pseudonyms
    WRITE = "write"  # events, users, items
    ADMIN = "admin"  # bundles, fusion, who users are


@final
@dataclass(frozen=True, slots=True)
class Key:
    """A key by name: the SHA-256 of it (256 random bits need no slower one), and its scopes."""

    name: str
    sha256: str
    scopes: frozenset[Scope]


@final
class Keys:
    """The keys of a file; every one is compared, in constant time, whichever matches."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self.keys = tuple(keys)

    def find(self, given: str) -> Key | None:
        """The key that this is."""
        digest = _digest(given)
        found = [key for key in self.keys if hmac.compare_digest(key.sha256, digest)]
        return found[0] if found else None


def read_keys(path: Path) -> Keys:
    """The keys of a file that `add_key` wrote; :raises UserError: if it cannot be read, or has none."""
    try:
        keys = [_key(one) for one in json.loads(path.read_text(encoding="utf-8"))["keys"]]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of keys", mend=MAKE) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: no file of keys ({type(error).__name__})", mend=MAKE) from None
    if not keys:
        raise UserError(f"{path}: has no keys", mend=MAKE)
    return Keys(keys)


def add_key(path: Path, name: str, scopes: Iterable[str]) -> str:
    """A new key for a name, in place of the one that it had; the file keeps only its hash, so that it cannot be told again.

    :raises UserError: for an unknown scope, or a file that is no file of keys.
    """
    wanted = list(scopes)
    for scope in wanted:
        if scope not in list(Scope):
            raise UserError(f"--scope {scope}: no such scope", mend=nearest(scope, [one.value for one in Scope]))
    if not wanted or not name:
        raise UserError("a key needs a name and a scope", mend="give NAME and --scope read, write or admin")
    before = read_keys(path).keys if path.exists() else ()
    key = PREFIX + secrets.token_urlsafe(32)
    kept = [one for one in before if one.name != name] + [Key(name, _digest(key), frozenset(map(Scope, wanted)))]
    plain = [{"name": one.name, "sha256": one.sha256, "scopes": sorted(one.scopes)} for one in kept]
    durable.write(path, json.dumps({"keys": plain}, indent=1) + "\n")
    path.chmod(0o600)
    return key


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def _key(saved: dict[str, object]) -> Key:
    name, digest, scopes = saved["name"], saved["sha256"], saved["scopes"]
    if not isinstance(name, str) or not isinstance(digest, str) or len(digest) != 64 or not isinstance(scopes, list):
        raise ValueError(name)
    return Key(name, digest, frozenset(map(Scope, scopes)))
