"""Text that cannot steer a terminal, and that every terminal can show."""


def printable(text: str) -> str:
    """The text with what does not print written out: names of files and cards of styles hold anything."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
