"""Reading sign-in messages of anybody's making."""

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import InvalidInputError, VerificationError
from chain.sign_in import MAX_MESSAGE_CHARACTERS, check_message, parse_message
from tests.api.signing_in import message

ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
OFFER = {"domain": "fed.example", "uri": "https://fed.example", "chain_id": 1, "nonce": "n" * 8}
GOOD = message(OFFER, ADDRESS, 1_800_000_000)


@given(st.text(max_size=200), st.integers(0, len(GOOD)), st.integers(0, len(GOOD)))
def test_any_text_is_a_message_or_a_refusal(inserted: str, start: int, end: int) -> None:
    text = GOOD[:start] + inserted + GOOD[end:]
    with suppress(InvalidInputError):
        assert parse_message(text).text == text


@pytest.mark.parametrize("domain", ["f\u00e9d.example", "fed.example\ud800", "fed.ex\uff41mple"])
def test_a_domain_is_ascii_as_comparing_it_takes_nothing_else(domain: str) -> None:
    text = GOOD.replace(str(OFFER["domain"]), domain, 1)
    with pytest.raises(InvalidInputError, match="EIP-4361"):
        parse_message(text)


def test_every_domain_that_can_be_read_can_be_compared() -> None:
    marks = "".join(map(chr, range(0x21, 0x7F)))
    domain = "".join(mark for mark in marks if mark not in '"/?#')
    read = parse_message(GOOD.replace(str(OFFER["domain"]), domain, 1))
    assert read.domain == domain
    with pytest.raises(VerificationError, match="another domain"):
        check_message(read, domain="fed.example", uri="", chain_id=1, now=1_800_000_000)


def test_no_text_takes_long_to_read() -> None:
    hostile = [
        character * MAX_MESSAGE_CHARACTERS for character in ("a", "a://", "a-", " ", "\n", "0x")
    ]
    hostile += [GOOD + "\nResources:" + "\n- a" * 400, GOOD.replace("FedWitness", "x" * 1500)]
    began = time.process_time()
    for text in hostile:
        with suppress(InvalidInputError):
            parse_message(text[:MAX_MESSAGE_CHARACTERS])
    assert time.process_time() - began < 0.1
