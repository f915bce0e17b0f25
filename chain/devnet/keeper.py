"""Keep a whole copy of anvil's state beside the one that anvil rewrites in place.

anvil truncates and rewrites its state file every second. Killed in the middle of that, or on a
full disk, it leaves half a file, and the chain would be lost. It also mines while it writes, so
that a file may hold what a transaction did without the transaction: a chain that starts from it
has lost logs for ever. This small program runs beside anvil and copies every whole state to a
second file, which is replaced atomically. It ends by itself after anvil has ended.

Usage: python -m chain.devnet.keeper PID_FILE STATE_FILE COPY
"""

import hashlib
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from chain.devnet.process import remembered
from chain.errors import DevnetError
from chain.files import replacing

INTERVAL_SECONDS = 1.0
# A long state takes long to copy: spend at most a tenth of the time on it.
REST_PER_WORK = 9


def is_whole(content: bytes) -> bool:
    """Tell whether bytes are a whole anvil state, all of it from one moment.

    anvil collects blocks, transactions and accounts one after the other. They are from one moment
    if each transaction's block is there, and each account's nonce is the number of transactions
    that it has sent (Ethereum Yellow Paper, section 4.1).
    """
    try:
        state = json.loads(content)
        return _is_of_one_moment(state)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def keep_copy(state: Path, copy: Path, last_digest: bytes) -> bytes:
    """Copy the state if it is new and whole.

    Args:
        state: The file that anvil rewrites.
        copy: The file that receives the whole states.
        last_digest: SHA-256 of the state copied last, 32 bytes, or empty.

    Returns:
        The SHA-256 of the state that `copy` now holds.

    Raises:
        OSError: If the state cannot be read or the copy cannot be written. The old copy stays.
    """
    content = state.read_bytes()
    digest = hashlib.sha256(content).digest()
    if digest == last_digest or not is_whole(content):
        return last_digest
    with replacing(copy) as file:
        file.write(content)
    return digest


def recover(state: Path, copy: Path) -> bool:
    """Put the copy in the state's place if the state is missing or broken.

    A broken state stays beside it as `NAME.broken`, for whoever wants to look at it.

    Returns:
        Whether the copy was needed and used.

    Raises:
        DevnetError: If the state is broken, and the copy too or missing. Both stay.
        OSError: If the files cannot be read or written.
    """
    if state.exists() and is_whole(state.read_bytes()):
        return False
    if not copy.exists() or not is_whole(copy.read_bytes()):
        if not state.exists():
            return False
        raise DevnetError(
            f"{state} is not a whole state of a chain, and there is no whole copy in {copy}. "
            "To begin a new chain, move the folder of both away."
        )
    if state.exists():
        state.replace(state.with_name(f"{state.name}.broken"))
    with replacing(state) as file:
        file.write(copy.read_bytes())
    return True


def main(anvil_pid_file: Path, state: Path, copy: Path) -> None:
    """Copy until anvil has ended, and once more after that."""
    digest = b""
    running = True
    while running:
        running = remembered(anvil_pid_file) is not None
        began = time.monotonic()
        try:
            digest = keep_copy(state, copy, digest)
        except FileNotFoundError:
            pass  # anvil writes its first state a second after its start.
        except OSError as error:
            sys.stderr.write(f"could not copy {state} to {copy}: {error}\n")
        if running:
            time.sleep(max(INTERVAL_SECONDS, REST_PER_WORK * (time.monotonic() - began)))


def _is_of_one_moment(state: Any) -> bool:
    sent = Counter(str(each["info"]["from"]) for each in state["transactions"])
    last = max((int(block["header"]["number"], 16) for block in state["blocks"]), default=0)
    return (
        last == int(state["block"]["number"], 16)
        and all(each["block_number"] <= last for each in state["transactions"])
        # A contract's nonce counts the contracts that it has made.
        and all(
            account["nonce"] == sent[address]
            for address, account in state["accounts"].items()
            if account["code"] == "0x"
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
