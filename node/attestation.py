"""What a hospital attests of a data set: how identity was removed, from what, and with what.

Its bytes and its digest are those of section 4.4 of the protocol; the digest stands on the ledger
with every version that is made from the data set.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType

from chain.canonical import canonical_json, parse_json
from chain.digests import sha256
from chain.errors import InvalidInputError
from node.profile import BASIC, FIRST_CODE, METHODS, profile_digest

FORMAT = "fedwitness.attestation.v1"
_STANDARD = "DICOM PS3.15 Annex E"
_SOFTWARE = ("fedwitness", "pydicom", "numpy", "scipy", "pillow", "nibabel")
_DECODERS = ("pylibjpeg", "pylibjpeg-openjpeg", "pylibjpeg-libjpeg", "pyjpegls", "python-gdcm")
_MOST = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Attestation:
    """What is attested of a data set, without a value of any attribute.

    Attributes:
        options: Methods of CID 7050 by number, 0 for code 113100, that every file went through.
        counts: How many of what: files taken, skipped and held; images; boxes that were blanked;
            faces removed and kept.
        actions: How many attributes were treated by each action.
        output: SHA-256 of the list of what came out.
        profile: SHA-256 of the tables that were applied.
        software: Versions by name.
    """

    options: frozenset[int]
    counts: Mapping[str, int]
    actions: Mapping[str, int]
    output: bytes
    profile: bytes
    software: Mapping[str, str]

    def to_dict(self) -> dict[str, object]:
        """Return it as it is kept and hashed."""
        return {
            "format": FORMAT,
            "standard": _STANDARD,
            "methods": [
                {"code": str(FIRST_CODE + option), "meaning": METHODS[option]}
                for option in sorted(self.options)
            ],
            "counts": dict(self.counts),
            "actions": dict(self.actions),
            "output": self.output.hex(),
            "profile": self.profile.hex(),
            "software": dict(self.software),
        }

    def to_bytes(self) -> bytes:
        """Return its canonical JSON."""
        return canonical_json(self.to_dict())

    def digest(self) -> bytes:
        """Return the SHA-256 that stands on the ledger."""
        return sha256(self.to_bytes())

    def profile_bits(self) -> int:
        """Return the profile as the ledger has it: bit n for code 113100 + n (protocol 4.3)."""
        return sum(1 << option for option in self.options)


def attest(
    counts: Mapping[str, int],
    actions: Mapping[str, int] = MappingProxyType({}),
    options: frozenset[int] = frozenset({BASIC}),
    output: bytes = bytes(32),
) -> Attestation:
    """Attest, with the software and tables that are in use."""
    return Attestation(
        options,
        MappingProxyType(dict(sorted(counts.items()))),
        MappingProxyType(dict(sorted(actions.items()))),
        output,
        profile_digest(),
        MappingProxyType(dict(_versions())),
    )


def read_attestation(raw: bytes) -> Attestation:
    """Read an attestation back.

    Raises:
        InvalidInputError: If it is none, or its bytes are not those that were hashed.
    """
    try:
        told = parse_json(raw, _MOST)
        found = Attestation(
            frozenset(int(one["code"]) - FIRST_CODE for one in told["methods"]),  # type: ignore[index]
            MappingProxyType(dict(told["counts"])),  # type: ignore[index]
            MappingProxyType(dict(told["actions"])),  # type: ignore[index]
            bytes.fromhex(told["output"]),  # type: ignore[index]
            bytes.fromhex(told["profile"]),  # type: ignore[index]
            MappingProxyType(dict(told["software"])),  # type: ignore[index]
        )
        if found.to_bytes() == raw:
            return found
    except (KeyError, TypeError, ValueError):
        pass
    raise InvalidInputError("expected an attestation as FedWitness writes it, found something else")


def _versions() -> list[tuple[str, str]]:
    found = []
    for name in (*_SOFTWARE, *_DECODERS):
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found
