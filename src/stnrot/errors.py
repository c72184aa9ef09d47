"""What the person at the keyboard can put right: the commands print it as one line, without a stack."""


class InputError(ValueError):
    """A bad configuration, file or argument: says what was expected, what came, and what to do."""
