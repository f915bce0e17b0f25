"""Strangers' words, such as names on the ledger, made safe to show as text."""


def escaped(text: str, keep: str = "") -> str:
    r"""Spell out what steers a terminal or turns the direction of writing: ``\x1b``, ``\u202e``.

    Args:
        text: Anybody's words.
        keep: Characters that stay what they are, though they are not printable.
    """
    return "".join(
        one if one.isprintable() or one in keep else one.encode("unicode_escape").decode()
        for one in text
    )
