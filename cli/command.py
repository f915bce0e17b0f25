"""What every command shares: its common options, and an end without a traceback.

A command is a function whose parameters include some of

- ``federation: Federation``: becomes ``--federation`` and one option for each address in it;
- ``identity: Identity``: becomes ``--key`` and ``--password-file``;
- ``keyring: Keyring``: the same two, where a command needs the keys' place and not the keys,
  and ``Keyring | None`` where it can do without;
- ``screen: Screen``: becomes ``--json``.

This is also the one place that reads ``FEDWITNESS_*`` variables (as those options' defaults).

Exit codes: 0 well done; 1 the check that was asked for has findings; 2 it could not be done, with
one line that says why; 130 interrupted.
"""

import functools
import inspect
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from chain.errors import FedWitnessError, InvalidInputError
from chain.federation import FILE_NAME, Federation, read_federation
from chain.keyring import Keyring
from chain.keystore import Identity
from cli.screen import Screen

FINDINGS = 1
FAILED = 2
INTERRUPTED = 130


def _option(*names: str, variable: str | None = None, told: str) -> Any:
    return typer.Option(*names, envvar=variable, help=told, show_default=False)


FEDERATION_OPTIONS: Mapping[str, Any] = {
    "federation_file": Annotated[
        Path | None,
        _option(
            "--federation",
            variable="FEDWITNESS_FEDERATION",
            told=f"The federation's file; ./{FILE_NAME} where there is one.",
        ),
    ],
    "rpc_url": Annotated[
        str | None,
        _option("--rpc", variable="FEDWITNESS_RPC", told="URL of an Ethereum endpoint."),
    ],
    "ipfs": Annotated[
        str | None,
        _option(
            "--ipfs",
            variable="FEDWITNESS_IPFS",
            told="RPC of an IPFS node, such as /ip4/127.0.0.1/tcp/5001.",
        ),
    ],
    "ledger": Annotated[
        str | None,
        _option("--ledger", variable="FEDWITNESS_LEDGER", told="Address of the RoundLedger."),
    ],
    "image_access": Annotated[
        str | None,
        _option(
            "--image-access",
            variable="FEDWITNESS_IMAGE_ACCESS",
            told="Address of the ImageAccess contract.",
        ),
    ],
    "api_url": Annotated[
        str | None, _option("--api", variable="FEDWITNESS_API", told="URL of the REST server.")
    ],
}
KEY_OPTIONS: Mapping[str, Any] = {
    "key": Annotated[
        Path | None,
        _option("--key", variable="FEDWITNESS_KEY", told="Your keystore file, NAME.json."),
    ],
    "password_file": Annotated[
        Path | None,
        _option(
            "--password-file",
            variable="FEDWITNESS_PASSWORD_FILE",
            told="File with its password; you are asked where there is none.",
        ),
    ],
}
JSON_OPTION: Mapping[str, Any] = {
    "as_json": Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")
    ],
}


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Give a function its common options and an end without a traceback.

    Args:
        function: As described at the top of this module.
    """
    parameters = inspect.signature(function, eval_str=True).parameters
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in parameters.values()
        if parameter.annotation not in _EXPANSIONS
    ]
    wanted = [one.annotation for one in parameters.values() if one.annotation in _EXPANSIONS]
    options = {name: kind for one in wanted for name, kind in _EXPANSIONS[one].items()}

    @functools.wraps(function)
    def run(**given: Any) -> None:
        common = {name: given.pop(name) for name in options}
        screen = Screen(as_json=bool(common.get("as_json", False)))
        with _without_traceback(screen):
            for name, parameter in parameters.items():
                if parameter.annotation in _EXPANSIONS:
                    given[name] = _build(parameter.annotation, common, screen)
            function(**given)

    added = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=kind,
            default=False if name == "as_json" else None,
        )
        for name, kind in options.items()
    ]
    run.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    # Typer looks for annotations here as well, and `wraps` has copied the function's own.
    run.__annotations__ = {one.name: one.annotation for one in (*own, *added)}
    return run


_EXPANSIONS: Mapping[Any, Mapping[str, Any]] = {
    Federation: FEDERATION_OPTIONS,
    Identity: KEY_OPTIONS,
    Keyring: KEY_OPTIONS,
    Keyring | None: KEY_OPTIONS,
    Screen: JSON_OPTION,
}


def _build(kind: object, common: Mapping[str, Any], screen: Screen) -> object:
    if kind is Screen:
        return screen
    if kind is Federation:
        return _federation(**{name: common[name] for name in FEDERATION_OPTIONS})
    if common["key"] is None and kind == Keyring | None:
        return None
    keyring = _keyring(common["key"], common["password_file"])
    return keyring.unlock() if kind is Identity else keyring


def _federation(federation_file: Path | None, **addresses: str | None) -> Federation:
    """Read the federation's file, if any; what was given by option counts more."""
    here = Path(FILE_NAME)
    path = here if federation_file is None and here.is_file() else federation_file
    known = Federation() if path is None else read_federation(path)
    # A ledger given by hand is another federation than the file's: keep nothing else of it.
    if addresses["ledger"] not in (None, known.ledger):
        known = replace(known, chain_id=0, image_access="")
    return replace(known, **{name: value for name, value in addresses.items() if value})  # type: ignore[arg-type]


def _keyring(key: Path | None, password_file: Path | None) -> Keyring:
    if key is None:
        message = "this needs your keys: give your keystore file with --key"
        raise InvalidInputError(message)
    return Keyring(key, password_file)


@contextmanager
def _without_traceback(screen: Screen) -> Iterator[None]:
    """Turn whatever the block raises into one line and an exit code."""
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except KeyboardInterrupt:
        screen.fail("Interrupted", "interrupted; what was done so far is kept")
        raise typer.Exit(INTERRUPTED) from None
    except FedWitnessError as error:
        screen.fail(type(error).__name__, str(error))
        raise typer.Exit(FAILED) from None
    except OSError as error:
        named = f"{error.filename}: " if error.filename is not None else ""
        screen.fail("OSError", f"{named}{error.strerror or error}")
        raise typer.Exit(FAILED) from None
    except Exception as error:  # noqa: BLE001 - the last place before the user
        message = (
            f"something went wrong that FedWitness did not expect ({type(error).__name__}); "
            f"what happened is in {_write_log(error)}: send it along when you report this"
        )
        screen.fail(type(error).__name__, message)
        raise typer.Exit(FAILED) from None


def _write_log(error: BaseException) -> Path:
    """Keep the traceback for whoever mends this; it shows code and no values."""
    descriptor, name = tempfile.mkstemp(prefix="fedwitness-", suffix=".log")
    with os.fdopen(descriptor, "w") as file:
        file.writelines(traceback.format_exception(error))
    return Path(name)
