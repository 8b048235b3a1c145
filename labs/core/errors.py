"""The two ways a run ends badly. The command line turns them into one line and an exit code."""


class UserError(Exception):
    """The call is wrong (exit code 2). The message is one line: what is wrong, what was found, what to do."""


class RunFailed(Exception):
    """The call was right and the run failed (exit code 1). The first line says what failed and where.

    `details` holds what a reader needs next (a rank's traceback, the end of a server's log), or nothing.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details
