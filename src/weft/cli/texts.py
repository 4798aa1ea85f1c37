"""Text from outside on its way to a terminal."""


def printable(text: str) -> str:
    """The text with control characters, other than line ends and tabs, written out: none may steer the terminal."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else ascii(character)[1:-1]
        for character in text
    )
