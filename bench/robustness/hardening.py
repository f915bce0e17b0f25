"""What honest hospitals can do to their batches so that nothing stamped on an image decides."""

import torch
from torch import Tensor

_SHARE = 0.5  # of the images
_LEAST, _GREATEST = 0.06, 0.4  # of an image's side
_WHOLE = 0.25  # of the stamps cover the image, faintly
_FAINT = 0.3  # the most that such a stamp is mixed in


def random_stamps(images: Tensor, generator: torch.Generator) -> Tensor:
    """Stamp rectangles of random place, size, content and strength on half of the images.

    After random erasing (Zhong et al. 2020, AAAI) and the random patches that unlearn triggers
    nobody knows (cf. Zhang et al. 2023, FLIP, ICLR). Labels stay true.

    Args:
        images: Normalised, of shape (..., height, width).
        generator: The only source of chance.
    """
    flat = images.reshape(-1, *images.shape[-2:])
    n, height, width = flat.shape

    def chance(*shape: int) -> Tensor:
        return torch.rand(shape or (n, 1, 1), generator=generator)

    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    tall = (_LEAST + chance() * (_GREATEST - _LEAST)) * height
    wide = (_LEAST + chance() * (_GREATEST - _LEAST)) * width
    top, left = chance() * (height - tall), chance() * (width - wide)
    inside = (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
    whole = chance() < _WHOLE
    strength = torch.where(whole, _FAINT * chance(), 0.3 + 0.7 * chance().round(decimals=0))
    stamped = (inside | whole) & (chance() < _SHARE)

    grain = chance(n, height, width)
    cells = torch.randint(1, 4, (n, 1, 1), generator=generator)
    checks = ((rows // cells + columns // cells) % 2).float()
    contents = torch.stack([chance().expand_as(flat), grain, grain.round(), checks])
    kind = torch.randint(len(contents), (n,), generator=generator)
    low, high = flat.amin(dim=(1, 2), keepdim=True), flat.amax(dim=(1, 2), keepdim=True)
    content = low + contents[kind, torch.arange(n)] * (high - low)
    return (flat + stamped * strength * (content - flat)).view(images.shape)
