"""Nonces that work once, and sessions that end soon.

Both live in memory: a restart of the server or gateway signs everybody out, and harms nothing else.
docs/protocol.md, section 2.
"""

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from threading import Lock

NONCE_SECONDS = 300
SESSION_SECONDS = 900
NONCES_PER_CLIENT = 8
SESSIONS_PER_ADDRESS = 16
MAX_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class _Entry:
    owner: str
    expires: float


class Tickets:
    """Random secrets with an owner and an end, of which only the SHA-256 is kept.

    Args:
        seconds: How long each lives.
        per_owner: How many an owner may hold; a further one ends the owner's oldest.
        clock: Unix seconds.
    """

    def __init__(self, seconds: int, per_owner: int, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._per_owner = per_owner
        self._clock = clock
        self._lock = Lock()
        self._entries: dict[bytes, _Entry] = {}
        self._owned: dict[str, deque[bytes]] = {}

    def issue(self, owner: str) -> tuple[str, int] | None:
        """Make a new secret of 32 random bytes.

        Returns:
            The secret in hex and its end in Unix seconds; None where too many are outstanding.
        """
        secret = secrets.token_hex(32)
        with self._lock:
            self._drop_expired()
            if len(self._entries) >= MAX_ENTRIES:
                return None
            owned = self._owned.setdefault(owner, deque())
            if len(owned) >= self._per_owner:
                self._entries.pop(owned.popleft(), None)
            key = _key(secret)
            owned.append(key)
            expires = self._clock() + self._seconds
            self._entries[key] = _Entry(owner, expires)
        return secret, int(expires)

    def owner(self, secret: str) -> str | None:
        """Return whose secret this is; None for a secret that is unknown or past its end."""
        with self._lock:
            return self._living(self._entries.get(_key(secret)))

    def end(self, secret: str) -> str | None:
        """End a secret and return whose it was; of two callers at once only one learns it."""
        key = _key(secret)
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is not None:
                self._disown(entry.owner, key)
            return self._living(entry)

    def _living(self, entry: _Entry | None) -> str | None:
        return entry.owner if entry is not None and entry.expires > self._clock() else None

    def _drop_expired(self) -> None:
        # Entries are in the order of their making, and all live equally long.
        now = self._clock()
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if entry.expires > now:
                return
            del self._entries[key]
            self._disown(entry.owner, key)

    def _disown(self, owner: str, key: bytes) -> None:
        owned = self._owned[owner]
        owned.remove(key)
        if not owned:
            del self._owned[owner]


def new_nonces(clock: Callable[[], float]) -> Tickets:
    """Return an empty store of sign-in nonces; their owner is address and client together.

    Were it the address alone, anyone could push a party's nonces out by asking for more.
    """
    return Tickets(NONCE_SECONDS, NONCES_PER_CLIENT, clock)


def new_sessions(clock: Callable[[], float]) -> Tickets:
    """Return an empty store of sessions; their owner is an address."""
    return Tickets(SESSION_SECONDS, SESSIONS_PER_ADDRESS, clock)


class RateLimit:
    """Counts what each client asks for in the current minute.

    Args:
        per_minute: The most that one client may ask for.
        clock: Unix seconds.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._lock = Lock()
        self._minute = 0
        self._counts: dict[str, int] = {}

    def admits(self, client: str) -> bool:
        """Count one request of a client and tell whether it is within the limit."""
        minute = int(self._clock()) // 60
        with self._lock:
            if minute != self._minute or len(self._counts) >= MAX_ENTRIES:
                self._minute = minute
                self._counts.clear()
            count = self._counts.get(client, 0) + 1
            self._counts[client] = count
        return count <= self._per_minute


def _key(secret: str) -> bytes:
    # Looking a hash up tells an attacker's clock nothing about the secret.
    return sha256(secret.encode()).digest()
