"""The version of mmv2m; also read by setup.py, so it stays a plain assignment."""

__version__ = '0.1.0'
