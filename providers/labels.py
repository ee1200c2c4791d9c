"""Tags on clouds whose tags are plain words: ``key=value``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def words_of(tags: Mapping[str, str]) -> list[str]:
    """Return tags as words, in order of their keys."""
    return [f"{key}={value}" for key, value in sorted(tags.items())]


def tags_from(words: Iterable[str]) -> dict[str, str]:
    """Return the words that are tags; ``key:value``, as some modules write it, counts too."""
    tags: dict[str, str] = {}
    for word in sorted(words):
        key, mark, value = word.partition("=") if "=" in word else word.partition(":")
        if mark:
            tags[key] = value
    return tags
