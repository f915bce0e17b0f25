"""The process that files are opened in: one that may be killed, and that tells nothing.

It reads a job a line from standard input and answers a line each on what was standard output.
Libraries that decode images are written in C, print what they like, and can crash or hang on a
hostile file; whatever they do ends here. `node.ingest` starts, limits, watches and replaces it.
"""

import errno
import json
import logging
import os
import resource
import sys
from pathlib import Path

from node.journal import SKIPPED
from node.pseudonyms import Pseudonyms
from node.treatment import Job, Treated, treat

_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE})


def main() -> None:
    """Answer jobs until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    logging.disable(logging.CRITICAL)
    os.umask(0o077)
    start = json.loads(sys.stdin.readline())
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (start["memory"], most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the patient
    pseudonyms = Pseudonyms(bytes.fromhex(start["secret"]))
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(_answer(line, pseudonyms).to_dict()) + "\n")
        answers.flush()


def _answer(line: str, pseudonyms: Pseudonyms) -> Treated:
    asked = json.loads(line)
    job = Job(
        source=Path(os.fsdecode(bytes.fromhex(asked["source"]))),
        name=os.fsdecode(bytes.fromhex(asked["name"])),
        id=asked["id"],
        out=Path(asked["out"]),
        looked_at=asked["looked_at"],
        deface=asked["deface"],
    )
    try:
        return treat(job, pseudonyms)
    except MemoryError:
        return Treated(SKIPPED, "too large")
    except PermissionError:
        return Treated(SKIPPED, "not readable")
    except FileNotFoundError:
        return Treated(SKIPPED, "gone")
    except OSError as error:
        if error.errno in _DISK:  # no file's fault: say so, and let the run end
            return Treated("failed", os.strerror(error.errno))
        return Treated(SKIPPED, "damaged")  # libraries say so of bytes that they cannot read
    except Exception:  # noqa: BLE001 - nothing a file holds may end the run
        return Treated(SKIPPED, "damaged")


if __name__ == "__main__":
    main()
