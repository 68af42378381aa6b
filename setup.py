"""Where the packages lie; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

OPS = ['ops', *(f'ops.{package}' for package in find_packages('ops'))]

setup(
    packages=[
        *find_packages(include=['mmv2m', 'mmv2m.*']),
        *(f'mmv2m.{package}' for package in OPS),
    ],
    package_dir={'mmv2m.ops': 'ops'},
)
