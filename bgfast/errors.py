"""Errors the command line shows as one line: what was wrong and what to do."""


class UserError(ValueError):
    """Bad input to a command; the command line shows its message and exits with code 2."""


class TrainingError(RuntimeError):
    """Training cannot go on; the command line shows its message and exits with code 1."""
