"""What a clinician says about an image, before it takes the form of a document."""

from dataclasses import dataclass

from chain.errors import InvalidInputError

MAX_TEXT = 65_536  # characters of findings, of an impression and of a question
MAX_NAME = 64  # characters, of a person or an organization (PS3.5, section 6.2)


@dataclass(frozen=True, slots=True)
class Words:
    """A reading in words.

    Attributes:
        impression: What it comes to.
        findings: What is seen; empty where nothing was said.
        clinician: Who reads, as DICOM writes names (``Doe^Jane``); empty for nobody named.
        organization: Whose clinician that is.
        is_final: Whether more is to come.
    """

    impression: str
    findings: str = ""
    clinician: str = ""
    organization: str = ""
    is_final: bool = True

    def __post_init__(self) -> None:
        """Refuse what no document can hold.

        Raises:
            InvalidInputError: If there is no impression, or something is too long.
        """
        if not self.impression.strip():
            raise InvalidInputError("expected an impression, found none: give it with --impression")
        for name in ("impression", "findings"):
            check_text(getattr(self, name), name)
        for name in ("clinician", "organization"):
            told = getattr(self, name)
            if len(told) > MAX_NAME or not told.isprintable() or "\\" in told:
                raise InvalidInputError(
                    f"{name}: expected a name of at most {MAX_NAME} characters, found another"
                )


def check_text(text: str, name: str) -> None:
    """Refuse a text that is too long, or has control characters.

    Raises:
        InvalidInputError: If it is or has.
    """
    if len(text) > MAX_TEXT:
        raise InvalidInputError(
            f"{name}: expected at most {MAX_TEXT} characters, found {len(text)}"
        )
    if any(one < " " and one not in "\t\n\r" for one in text) or "\x7f" in text:
        raise InvalidInputError(f"{name}: expected text, found control characters")
