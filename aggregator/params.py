"""Parameters of steps: integers, so that every reader of the ledger reads the same."""

from chain.errors import InvalidInputError


def require_integer(step: str, name: str, value: object, least: int, greatest: int) -> None:
    """Refuse a parameter that is no integer within its bounds.

    Raises:
        InvalidInputError: If it is not.
    """
    # `True` is an int to Python, and 1.0 equals 1.
    if type(value) is not int or not least <= value <= greatest:
        message = f"{step} needs an integer {name} from {least} to {greatest}, found {value!r}"
        raise InvalidInputError(message)
