"""References in docstrings (``:func:`name```) as mkdocstrings writes them."""

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r':(?:func|class|meth|attr|mod|data):`[~.]*([\w.]+)`')


class Roles(Extension):
    """Makes a link of each reference whose target has a place in the site, code of the others."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite an object's docstring."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(
                r'<autoref optional identifier="\1"><code>\1</code></autoref>', obj.docstring.value
            )
