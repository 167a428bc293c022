"""Functions that the broken workflows name; never imported by the tests."""

raise RuntimeError("a check must not import this")


def split(diff: str, limit: int = 3) -> list[str]:
    return diff.split()[:limit]


def by_place(text: str, /) -> str:
    return text


def search(words: str, most: int = 3) -> list[str]:
    return words.split()[:most]
