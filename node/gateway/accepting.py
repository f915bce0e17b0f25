"""In which form an answer goes: what a request's `Accept` takes, of what there is (PS3.18, 8.7).

A form that is taken may still be none that an image can be in, so all that are taken are returned,
the one that is wanted most first.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

DICOM, OCTETS = "application/dicom", "application/octet-stream"
DICOM_JSON, PLAIN_JSON = "application/dicom+json", "application/json"
JPEG, PNG = "image/jpeg", "image/png"
EXPLICIT = "1.2.840.10008.1.2.1"  # Explicit VR Little Endian, in which everything lies
JPEG_LS, JPEG_2000, RLE = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"

Offer = tuple[str, str]  # a media type, and a transfer syntax or nothing

# The first offer of a media type is what it means where no transfer syntax is named.
INSTANCES: tuple[Offer, ...] = (
    (DICOM, EXPLICIT),
    (DICOM, JPEG_LS),
    (DICOM, JPEG_2000),
    (DICOM, RLE),
)
FRAMES: tuple[Offer, ...] = (
    (OCTETS, EXPLICIT),
    ("image/jls", JPEG_LS),
    ("image/x-jls", JPEG_LS),  # as it was called before 2019
    ("image/jp2", JPEG_2000),
    ("image/dicom-rle", RLE),
    ("image/x-dicom-rle", RLE),
)
BULK_DATA: tuple[Offer, ...] = ((OCTETS, EXPLICIT),)
METADATA: tuple[Offer, ...] = ((DICOM_JSON, ""), (PLAIN_JSON, ""))
PICTURES: tuple[Offer, ...] = ((JPEG, ""), (PNG, ""))

_LONGEST = 4096  # characters of a header that are read
_RANGE = re.compile(r'(?:[^,"]|"[^"]*")+')
_QUALITY = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Form:
    """A form of an answer.

    Attributes:
        media: The media type, of each part where there are several.
        syntax: The transfer syntax; empty where there is none.
        in_parts: Whether it goes in multipart/related.
    """

    media: str
    syntax: str
    in_parts: bool

    def content_type(self) -> str:
        """Return what a part, or the only one, is said to be."""
        return f"{self.media}; transfer-syntax={self.syntax}" if self.syntax else self.media


@dataclass(frozen=True, slots=True)
class _Range:
    media: str
    parameters: dict[str, str]
    quality: float


def acceptable(accept: str, offers: Sequence[Offer], *, single: bool) -> tuple[Form, ...]:
    """Return the forms that a request takes, the one that it wants most first.

    Args:
        accept: The `Accept` header; empty takes anything.
        offers: What there is, the preferred first.
        single: Whether an answer without multipart is possible, too.
    """
    ranges = sorted(_ranges(accept), key=lambda one: -one.quality)
    forms = (form for one in ranges if one.quality for form in _taken(one, offers, single=single))
    return tuple(dict.fromkeys(forms))


def _ranges(accept: str) -> Iterator[_Range]:
    for one in _RANGE.findall(accept[:_LONGEST] or "*/*"):
        media, *rest = one.split(";")
        parameters = {}
        for parameter in rest:
            name, _, value = parameter.partition("=")
            parameters[name.strip().lower()] = value.strip().strip('"')
        told = parameters.pop("q", "1")
        quality = float(told) if _QUALITY.fullmatch(told) else 0.0
        yield _Range(media.strip().lower(), parameters, quality)


def _taken(wanted: _Range, offers: Sequence[Offer], *, single: bool) -> Iterator[Form]:
    in_parts = wanted.media in {"multipart/related", "multipart/*"}
    media = wanted.parameters.get("type", "*/*").lower() if in_parts else wanted.media
    if not (in_parts or single):
        if media != "*/*":
            return
        in_parts = True
    syntax = wanted.parameters.get("transfer-syntax")
    seen: set[str] = set()
    for offered, offered_syntax in offers:
        is_default = offered not in seen
        seen.add(offered)
        fits = is_default if syntax is None else syntax in {"*", offered_syntax}
        # A syntax says nothing of what has none, such as a picture.
        if _matches(media, offered) and (fits or not offered_syntax):
            yield Form(offered, offered_syntax, in_parts)


def _matches(wanted: str, media: str) -> bool:
    return wanted in {"*/*", media} or (
        wanted.endswith("/*") and media.startswith(wanted.removesuffix("*"))
    )
