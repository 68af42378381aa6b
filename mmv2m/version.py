"""The version of mmv2m. The build reads it too, so it has to stay a plain assignment."""

__version__ = '0.1.0'
