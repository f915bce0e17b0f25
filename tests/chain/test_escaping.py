from chain.escaping import escaped


def test_what_steers_a_terminal_or_turns_writing_is_spelled_out() -> None:
    assert escaped("St\u202e Mary\x1b[31m\n") == "St\\u202e Mary\\x1b[31m\\n"


def test_what_is_kept_and_what_can_be_printed_stays() -> None:
    assert escaped("Hôpital 医院\n", keep="\n") == "Hôpital 医院\n"
