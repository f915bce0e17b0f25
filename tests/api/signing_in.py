"""What a client does to sign in."""

from datetime import UTC, datetime
from typing import Any

import httpx
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount


def message(offer: dict[str, Any], address: str, now: float, **changes: str) -> str:
    """Write the message of EIP-4361 for the server's offer, with some parts changed."""
    parts = {
        "domain": offer["domain"],
        "uri": offer["uri"],
        "chain_id": str(offer["chain_id"]),
        "nonce": offer["nonce"],
        "issued_at": moment(now),
        "rest": "",
    } | changes
    return (
        f"{parts['domain']} wants you to sign in with your Ethereum account:\n{address}\n\n"
        f"Sign in to FedWitness.\n\nURI: {parts['uri']}\nVersion: 1\n"
        f"Chain ID: {parts['chain_id']}\nNonce: {parts['nonce']}\n"
        f"Issued At: {parts['issued_at']}{parts['rest']}"
    )


def moment(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def signature(text: str, account: LocalAccount) -> str:
    return "0x" + account.sign_message(encode_defunct(text=text)).signature.hex()


def offered(http: httpx.Client, address: str) -> dict[str, Any]:
    answer = http.post("/v1/auth/nonce", json={"address": address})
    assert answer.status_code == 200, answer.text
    offer: dict[str, Any] = answer.json()
    return offer


def begin(http: httpx.Client, text: str, account: LocalAccount) -> httpx.Response:
    body = {"message": text, "signature": signature(text, account)}
    return http.post("/v1/auth/session", json=body)


def session_headers(http: httpx.Client, account: LocalAccount, now: float) -> dict[str, str]:
    text = message(offered(http, account.address), account.address, now)
    answer = begin(http, text, account)
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}
