"""Runs a Solidity compiler as py-solc-x expects one: within a time limit, and nothing but JSON.

py-solc-x takes one executable, waits for ever, and reads all that it prints as JSON. npm's solc
is a JavaScript file whose first line is a message; it gives up where standard input is a pipe
that has nothing for it yet, and ends before a pipe has taken all that it prints. So it gets
files, and `chain.compiler` puts this program between.

Usage: python solc_process.py PROGRAM [ARGUMENT …]
"""

import shutil
import subprocess
import sys
import tempfile

LIMIT_SECONDS = 300.0
_MESSAGE = ">>>"


def main(command: list[str]) -> int:
    """Run the compiler and print what it prints, without a first line that is no JSON."""
    with tempfile.TemporaryFile() as request, tempfile.TemporaryFile("w+") as answer:
        if "--standard-json" in command:
            shutil.copyfileobj(sys.stdin.buffer, request)
            request.seek(0)
        try:
            ended = subprocess.run(
                command, stdin=request, stdout=answer, timeout=LIMIT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            sys.stderr.write(f"the compiler did not finish within {LIMIT_SECONDS:.0f} s")
            return 1
        answer.seek(0)
        first = answer.readline()
        sys.stdout.write("" if first.startswith(_MESSAGE) else first)
        shutil.copyfileobj(answer, sys.stdout)
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
