"""Text that is burned into pixels: found by its strokes and blanked.

Text differs from anatomy in what its letters share: strokes that stand out of what is around them,
of one brightness, in signs of one height, side by side on a straight line. No letter is read, so
neither language nor font matters, and nothing has to be downloaded. The steps, for bright text and
for dark, on the image and on coarser copies of it:

1. a top-hat (image less its morphological opening; Soille, *Morphological Image Analysis*, 2nd
   ed., section 4.5) leaves what is thinner than the opening's square;
2. connected components of what stands out are candidates for signs, by size and shape;
3. neighbours of one height on one line are joined to lines;
4. a line is text if enough signs in it are of one brightness, and doubtful if they are nearly.

What is text is blanked; what is doubtful makes a person look.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]

LEAST_SIDE = 64  # pixels; whoever burns text into an image makes it larger
_OPENING = 9  # pixels: strokes thinner than this are seen at the finest scale
_COARSER = {2: 256, 4: 768}  # further scales, and the least side of an image that they are for
_CONTRAST = 0.25  # of the image's range: less does not stand out
_LOWEST, _HIGHEST = 4, 48  # pixels: a sign's height
_WIDEST = 14  # heights: touching signs
_THINNEST, _DENSEST = 0.12, 0.95  # of a sign's box that is stroke
_MOST_SIGNS = 4000  # beyond it the image is noise at this contrast
_LEAST_SIGNS = 4  # in a line
_GAP = 1.9  # heights between neighbours on a line
_HEIGHTS = 0.55  # of the higher neighbour's height, at least
_ONE_BRIGHTNESS, _NEARLY = 0.04, 0.10  # of the range, the middle half of a line's brightness
_BLURRED = 0.16  # the same where heights are as even as print, and strokes finer than a pixel
_LONG = 6  # signs: a line so long need be less even
_TURNS = 3  # of looking and blanking, after which somebody has to look
_MOST_BLANKED = 0.35  # of an image; where more would go, somebody has to look
_AS_BRIGHT = 0.8  # of the range
_BESIDE = 0.4  # of what stands out in a line may stand out right above and below it
_MARGIN = 3  # pixels around what is blanked


@dataclass(frozen=True, slots=True)
class Box:
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right``, the ends not included."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True, slots=True)
class Found:
    """What looks like text in one image.

    Attributes:
        text: Where there is text.
        doubtful: Where there may be.
    """

    text: tuple[Box, ...]
    doubtful: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class _Sign:
    """What may be one sign, or a few that touch: its box, and how bright its strokes are."""

    box: Box
    brightness: float

    @property
    def height(self) -> int:
        return self.box.bottom - self.box.top

    @property
    def count(self) -> float:
        """How many signs of usual width it is wide."""
        return max(1.0, (self.box.right - self.box.left) / (0.9 * self.height))


def find_text(image: NDArray[Any]) -> Found:
    """Find what looks like text.

    Args:
        image: Numbers of shape (height, width), or (height, width, channels) in colour.
    """
    if min(image.shape[:2]) < LEAST_SIDE:
        return Found((), ())
    text: list[Box] = []
    doubtful: list[Box] = []
    for plane in _planes(image):
        scales = [1, *(one for one, side in _COARSER.items() if max(plane.shape) >= side)]
        for scale in scales:
            for box, sure in _lines(_coarser(plane, scale), ruled=scale > 1):
                larger = Box(*(scale * side for side in (box.top, box.left, box.bottom, box.right)))
                (text if sure else doubtful).append(_within(larger, scale, plane.shape))
    return Found(tuple(text), tuple(doubtful))


def blank(image: NDArray[Any], boxes: tuple[Box, ...]) -> None:
    """Blank boxes, in place: each takes the colour that is most frequent on its border."""
    for box in boxes:
        part = image[box.top : box.bottom, box.left : box.right]
        border = np.concatenate((part[0], part[-1], part[:, 0], part[:, -1]))
        colours, counts = np.unique(border, axis=0, return_counts=True)
        part[:] = colours[np.argmax(counts)]


def clean(
    image: NDArray[Any], shown: Callable[[NDArray[Any]], NDArray[Any]] = lambda image: image
) -> tuple[tuple[Box, ...], bool]:
    """Blank text in place, look again, and tell whether a person has to look.

    Args:
        image: As in `find_text`.
        shown: From the image to what is seen of it, where values are no brightness.

    Returns:
        What was blanked; and whether something is left that may be text, or more would be blanked
        than can be missed.
    """
    boxes: list[Box] = []
    covered = np.zeros(image.shape[:2], dtype=np.bool_)
    for _ in range(_TURNS):
        found = find_text(shown(image))
        if not found.text:
            break
        blank(image, found.text)
        boxes += found.text
        for box in found.text:
            covered[box.top : box.bottom, box.left : box.right] = True
    else:
        found = find_text(shown(image))
    left = bool(found.text or found.doubtful)
    return tuple(boxes), left or float(covered.mean()) > _MOST_BLANKED


def _planes(image: NDArray[Any]) -> Iterator[NDArray[np.float32]]:
    """Give each channel as it is and turned to its negative, in numbers from 0 to 1."""
    channels = np.atleast_3d(np.asarray(image, dtype=np.float32))
    low, high = float(channels.min()), float(channels.max())
    if not (np.isfinite(low) and np.isfinite(high) and high > low):
        return
    seen: list[NDArray[np.float32]] = []
    for number in range(channels.shape[2]):
        plane = (channels[:, :, number] - np.float32(low)) / np.float32(high - low)
        if not any(np.array_equal(plane, other) for other in seen):
            seen.append(plane)
            yield plane
            yield 1 - plane


def _coarser(plane: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    """Make a plane coarser by the brightest of each square, which keeps strokes."""
    if scale == 1:
        return plane
    height, width = (side // scale * scale for side in plane.shape)
    squares = plane[:height, :width].reshape(height // scale, scale, width // scale, scale)
    coarse: NDArray[np.float32] = squares.max(axis=(1, 3))
    return coarse


def _lines(plane: NDArray[np.float32], *, ruled: bool) -> Iterator[tuple[Box, bool]]:
    """Find lines; where only ruled ones count, anatomy at a coarse scale is none."""
    standing = plane - _opened(plane) > _CONTRAST
    for line in _joined(_signs(plane, standing)):
        told = _judged(line, only_ruled=ruled)
        if told is not None and _stands_alone(line, standing):
            yield _lengthened(_around(line), line, plane, standing), told


def _stands_alone(line: list[_Sign], standing: NDArray[np.bool_]) -> bool:
    """Tell whether there is less above and below a line than in it, as noise has it not."""
    top, bottom = min(s.box.top for s in line), max(s.box.bottom for s in line)
    columns = slice(min(s.box.left for s in line), max(s.box.right for s in line))
    band = max(2, (bottom - top) // 3)
    inside = float(standing[top:bottom, columns].mean())
    beside = [
        float(part.mean())
        for part in (
            standing[max(0, top - 1 - band) : max(0, top - 1), columns],
            standing[bottom + 1 : bottom + 1 + band, columns],
        )
        if part.size
    ]
    return max(beside, default=0.0) <= _BESIDE * inside


def _lengthened(
    box: Box, line: list[_Sign], plane: NDArray[np.float32], standing: NDArray[np.bool_]
) -> Box:
    """Take in what stands beside a line as bright as its signs, such as letters that touch."""
    height = max(sign.height for sign in line)
    darkest = min(sign.brightness for sign in line) - _NEARLY
    rows = slice(min(sign.box.top for sign in line), max(sign.box.bottom for sign in line))
    strokes = standing[rows] & (plane[rows] >= darkest)
    columns: NDArray[np.bool_] = np.any(strokes, axis=0)
    reach = height
    left, right = max(0, box.left), min(len(columns), box.right)
    while left > 0 and (beside := np.flatnonzero(columns[max(0, left - reach) : left])).size:
        left = max(0, left - reach) + int(beside[0])
    while right < len(columns) and (beside := np.flatnonzero(columns[right : right + reach])).size:
        right += int(beside[-1]) + 1
    return Box(box.top, left, box.bottom, right)


def _opened(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    # Along rows and columns one after the other: the same as a square, in a fraction of the time.
    eroded = ndimage.minimum_filter(plane, _OPENING, mode="nearest")
    opened: NDArray[np.float32] = ndimage.maximum_filter(eroded, _OPENING, mode="nearest")
    return opened


def _signs(plane: NDArray[np.float32], standing: NDArray[np.bool_]) -> list[_Sign]:
    labels, count = ndimage.label(standing, structure=np.ones((3, 3), dtype=np.int8))
    if not 0 < count <= _MOST_SIGNS:
        return []
    signs = []
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = place
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if not (_LOWEST <= height <= _HIGHEST and 1 <= width <= _WIDEST * height):
            continue
        own = labels[place] == number
        density = own.mean()
        thin = width <= height // 3  # such as an I, which fills its box
        if density < _THINNEST or (density > _DENSEST and not thin):
            continue
        brightest = float(np.percentile(plane[place][own], 85))
        signs.append(_Sign(Box(rows.start, columns.start, rows.stop, columns.stop), brightest))
    return signs


def _joined(signs: list[_Sign]) -> Iterator[list[_Sign]]:
    """Join neighbours of about one height whose middles are about on one row."""
    rest = sorted(signs, key=lambda sign: (sign.box.left, sign.box.top))
    lines: list[list[_Sign]] = []
    for sign in rest:
        for line in reversed(lines):
            if _continues(line, sign):
                line.append(sign)
                break
        else:
            lines.append([sign])
    yield from lines


def _continues(line: list[_Sign], sign: _Sign) -> bool:
    last = line[-1].box
    height = max(one.height for one in line[-4:])
    if sign.box.left - max(one.box.right for one in line[-4:]) > _GAP * max(height, sign.height):
        return False
    if min(height, sign.height) < _HEIGHTS * max(height, sign.height):
        return False
    low = max(last.top, sign.box.top)
    high = min(last.bottom, sign.box.bottom)
    return high - low >= 0.5 * min(line[-1].height, sign.height)


def _judged(line: list[_Sign], *, only_ruled: bool) -> bool | None:
    """Tell whether a line is text, doubtful (false), or neither."""
    count = sum(sign.count for sign in line)
    if count < _LEAST_SIGNS:
        return None
    tops = np.array([sign.box.top for sign in line])
    bottoms = np.array([sign.box.bottom for sign in line])
    height = float(np.median(bottoms - tops))
    uneven = sorted(float(np.median(np.abs(ends - np.median(ends)))) for ends in (tops, bottoms))
    if uneven[0] > max(1.0, 0.12 * height) or uneven[1] > max(2.0, 0.25 * height):
        return None
    ruled = uneven[1] <= max(0.5, 0.06 * height) and len(line) >= _LEAST_SIGNS
    if only_ruled and not ruled:
        return None
    low, high = np.percentile([sign.brightness for sign in line], (15, 85))
    spread = float(high - low)
    # Print is as bright as an image gets; folds of a brain are not, and look less like it.
    if low < _AS_BRIGHT and not (ruled and count >= _LONG):
        return None
    if spread <= _ONE_BRIGHTNESS or (ruled and spread <= _BLURRED and count >= _LONG):
        return True
    doubtful = (spread <= _NEARLY and count >= _LONG) or (ruled and spread <= _BLURRED)
    return False if doubtful else None


def _around(line: list[_Sign]) -> Box:
    boxes = [sign.box for sign in line]
    height = max(sign.height for sign in line)
    # Dots, commas and accents are too small to be signs, and stand beside the line's ends.
    return Box(
        min(box.top for box in boxes) - height // 3,
        min(box.left for box in boxes) - height,
        max(box.bottom for box in boxes) + height // 3,
        max(box.right for box in boxes) + height,
    )


def _within(box: Box, scale: int, shape: tuple[int, ...]) -> Box:
    margin = _MARGIN * scale
    return Box(
        max(0, box.top - margin),
        max(0, box.left - margin),
        min(shape[0], box.bottom + margin),
        min(shape[1], box.right + margin),
    )
