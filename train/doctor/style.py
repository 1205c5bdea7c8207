"""Text of a page: escaped, and without what XML cannot hold, since the pages are XML as well."""

from __future__ import annotations

import re
from html import escape
from typing import Any

UNPRINTABLE = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML cannot hold


def printable_xml(value: Any) -> str:
    """Anything as text that XML can hold, not yet escaped."""
    return UNPRINTABLE.sub("\ufffd", str(value))


def text(value: Any) -> str:
    """Anything as text of a page, escaped."""
    return escape(printable_xml(value))
