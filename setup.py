"""Where the packages lie, and what mim looks for; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

OPS = ['ops', *(f'ops.{package}' for package in find_packages('ops'))]

FOR_THE_REPOSITORY = ('benchmarks', 'build_model_zoo.py', 'docs', 'figures', 'setup')
"""Tools that make or measure what only a clone has."""


class BuildWithConfigs(build_py):
    """Puts the model index, the configs and the tools into the package's folder ``.mim``.

    There mim looks for them. Tools that are for a clone stay there. An editable install needs no
    copy: mim looks into the clone.
    """

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, 'mmv2m', '.mim')
        ignored = shutil.ignore_patterns('__pycache__', '*.py[cod]', *FOR_THE_REPOSITORY)
        for folder in ('configs', 'tools'):
            shutil.copytree(folder, target / folder, dirs_exist_ok=True, ignore=ignored)
        shutil.copy('model-index.yml', target)


setup(
    packages=[
        *find_packages(include=['mmv2m', 'mmv2m.*']),
        *(f'mmv2m.{package}' for package in OPS),
    ],
    package_dir={'mmv2m.ops': 'ops'},
    cmdclass={'build_py': BuildWithConfigs},
)
