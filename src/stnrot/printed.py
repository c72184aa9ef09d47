"""Names of files, and what else others have chosen, in printed lines."""


def printable(line: str) -> str:
    r"""Return a line whose control characters, and bytes that are no UTF-8, are escaped: a name can hold both.

    >>> printable("two\nlines \udcff.png")
    'two\\nlines \\udcff.png'
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)
