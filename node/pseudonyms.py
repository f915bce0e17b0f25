"""What identifiers are replaced by: keyed, stable in a hospital, unlinkable without its key.

Everything is HMAC-SHA-256 under the hospital's secret of a tag and what is replaced
(docs/protocol.md, section 4.4), so that two hospitals never come to the same pseudonym, and nobody
can try out identifiers without the secret.
"""

import base64
import hashlib
import hmac
import unicodedata
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from chain.errors import InvalidInputError

SECRET_SIZE = 32  # bytes
_LEAST_DAYS, _DAYS = 30, 3622  # a shift is of 30 to 3,651 days
_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """A hospital's way from identifiers to pseudonyms.

    Args:
        secret: 32 bytes that only this hospital knows.
    """

    secret: bytes

    def __post_init__(self) -> None:
        """Refuse a secret of another size.

        Raises:
            InvalidInputError: If it is not 32 bytes.
        """
        if len(self.secret) != SECRET_SIZE:
            raise InvalidInputError(
                f"expected a secret of {SECRET_SIZE} bytes, found {len(self.secret)}"
            )

    def uid(self, uid: str) -> str:
        """Return the UID that stands for another: 2.25 and a UUID (DICOM PS3.5, B.2).

        The UUID is of version 8 (RFC 9562, section 5.8), whose bits are the maker's to choose.
        """
        raw = bytearray(self._digest("uid", uid)[:16])
        raw[6] = raw[6] & 0x0F | 0x80
        raw[8] = raw[8] & 0x3F | 0x80
        return f"2.25.{UUID(bytes=bytes(raw)).int}"

    def patient(self, patient: str) -> str:
        """Return the name and number that stand for a patient: FW and 16 letters and digits."""
        digest = self._digest("patient", _plain(patient))
        return "FW" + base64.b32encode(digest[:10]).decode("ascii")

    def shift(self, patient: str) -> timedelta:
        """Return by how much a patient's moments are set back: 30 to 3,652 days, to the second."""
        digest = self._digest("shift", _plain(patient))
        days = _LEAST_DAYS + int.from_bytes(digest[:8], "big") % _DAYS
        return timedelta(days=days, seconds=int.from_bytes(digest[8:16], "big") % _SECONDS)

    def file(self, name: str) -> str:
        """Return the 32 hexadecimal digits that stand for a file's name."""
        return self._digest("file", name)[:16].hex()

    def content(self, digest: bytes) -> str:
        """Return what stands for a file's content, so that its plain digest need not be told."""
        return self._digest("content", digest.hex()).hex()

    def _digest(self, what: str, told: str) -> bytes:
        message = f"fedwitness.{what}.v1".encode() + told.encode("utf-8", "surrogateescape")
        return hmac.digest(self.secret, message, hashlib.sha256)


def _plain(identifier: str) -> str:
    """Let one patient's number be one, however it is spaced or written."""
    return "".join(unicodedata.normalize("NFKC", identifier).split()).casefold()
