"""The one exception a user is meant to read."""


class CtrlRecError(Exception):
    """A problem the user can act on: says what and where, what was expected, and what to do.

    The command line prints its message without a traceback.
    """
