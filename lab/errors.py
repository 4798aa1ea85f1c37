"""What can go wrong in the lab itself."""


class LabError(Exception):
    """The lab did not do what it was asked; the text says what and why."""


class LabUnavailableError(LabError):
    """There can be no lab on this machine; one line that says why and what would help."""


class CommandFailedError(LabError):
    """A command in a VM ended with another status than 0."""

    def __init__(self, vm: str, command: str, status: int, stdout: str, stderr: str) -> None:
        text = stderr.strip() or stdout.strip() or "it printed nothing"
        super().__init__(f"on {vm}, exit status {status}: {command}\n{text}")
        self.status = status
        self.stdout = stdout
        self.stderr = stderr
