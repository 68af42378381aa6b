"""An extension of mkdocstrings for this package's sources; mkdocs.yml names this file."""

import re
from typing import Any

from griffe import Extension, Module, Object

ROLE = re.compile(r':(?:func|class|meth|attr|mod|data):`[~.]*([\w.]+)`')
LINK = r'<autoref optional identifier="\1"><code>\1</code></autoref>'
MATH = re.compile(r'^\.\. math::\n+((?: {4}.*(?:\n|$))+)', re.MULTILINE)
EQUATIONS = r'$$\n\\begin{aligned}\n\1\\end{aligned}\n$$\n'


class Docstrings(Extension):
    """An extension that rewrites docstrings for Markdown, and finds functions named as modules."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Turn references into links, or into code if the site lacks the target; set equations."""
        if obj.docstring:
            obj.docstring.value = MATH.sub(EQUATIONS, ROLE.sub(LINK, obj.docstring.value))

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Let an exported function hide the module that has the same name."""
        for package in (pkg, *pkg.modules.values()):
            for name in package.exports or ():
                member = package.members.get(str(name))
                if isinstance(member, Module) and name in member.members:
                    package.set_member(str(name), member.members[name])
