"""Parser of architecture strings.

``flow = item+``, ``item = (letter | "(" flow ")") number?``: a number repeats what is before it.
"""

from __future__ import annotations

from collections.abc import Container

MAX_LAYERS = 1000


def parse(spec: str, letters: Container[str]) -> list[str]:
    """Expand ``spec`` into a list of letters, ``"(RN)2S"`` into ``["R", "N", "R", "N", "S"]``.

    Raises
    ------
    TypeError
        If ``spec`` is not a string.
    ValueError
        With the number of the offending character (from 1) and what is wrong with it.
    """
    if not isinstance(spec, str):
        raise TypeError(f"spec must be a string, got {type(spec).__name__}")
    if not spec:
        raise ValueError('spec must name at least one layer, as in "R8", got an empty string')
    # Groups under construction, each with the position of its "(".
    open_groups: list[tuple[list[str], int]] = [([], -1)]
    position = 0
    while position < len(spec):
        group = open_groups[-1][0]
        character = spec[position]
        if character == "(":
            open_groups.append(([], position))
            position += 1
            continue
        if character == ")":
            if len(open_groups) == 1:
                raise _error(spec, position, "closes no parenthesis")
            if not group:
                raise _error(spec, position, "closes an empty group")
            open_groups.pop()
            item = group
        elif character in letters:
            item = [character]
        elif character in "0123456789":
            raise _error(spec, position, "a number must follow a layer or a group")
        else:
            raise _error(spec, position, f"no such layer; there are {_known(letters)}")
        count, position = _count(spec, position + 1)
        target = open_groups[-1][0]
        if len(target) + len(item) * count > MAX_LAYERS:
            raise _error(spec, position - 1, f"makes more than {MAX_LAYERS} layers")
        target += item * count
    if len(open_groups) > 1:
        raise _error(spec, open_groups[-1][1], "is never closed")
    return open_groups[0][0]


def _count(spec: str, start: int) -> tuple[int, int]:
    end = start
    while end < len(spec) and spec[end] in "0123456789":
        end += 1
    if end == start:
        return 1, end
    if spec[start] == "0":
        raise _error(spec, start, "a repeat number starts at 1")
    # Longer numbers are too large anyway, and int() refuses very long ones.
    return int(spec[start : min(end, start + 6)]), end


def _known(letters: Container[str]) -> str:
    return ", ".join(c for c in map(chr, range(65, 123)) if c in letters)


def _error(spec: str, position: int, problem: str) -> ValueError:
    return ValueError(f"spec {spec!r}, character {position + 1}, {spec[position]!r}: {problem}")
