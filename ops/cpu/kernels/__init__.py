"""C++ sources; see ``build.py``."""
