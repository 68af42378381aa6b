"""Models in folders and on the Hugging Face Hub, where huggingface_hub is installed."""

from pathlib import Path
from typing import Any, NoReturn

__all__ = ['HubMixin']

CLASS = 'model_class'
"""What ``config.json`` calls the class of the model that was saved."""

try:
    from huggingface_hub import PyTorchModelHubMixin
except ImportError:

    class PyTorchModelHubMixin:  # type: ignore[no-redef]
        """Says what is missing."""

        _hub_mixin_config: dict | None = None

        def __init_subclass__(cls, **about: Any) -> None:
            super().__init_subclass__()

        def save_pretrained(self, *args: Any, **settings: Any) -> NoReturn:
            """Refuse."""
            _refuse('save_pretrained')

        def push_to_hub(self, *args: Any, **settings: Any) -> NoReturn:
            """Refuse."""
            _refuse('push_to_hub')

        @classmethod
        def from_pretrained(cls, *args: Any, **settings: Any) -> NoReturn:
            """Refuse."""
            _refuse('from_pretrained')


class HubMixin(
    PyTorchModelHubMixin,
    library_name='mmv2m',
    paper_url='https://arxiv.org/abs/2410.10382',
    license='apache-2.0',
    tags=['mmv2m', 'mamba', 'state-space-model'],
):
    """``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` of huggingface_hub.

    A saved folder has the weights (``model.safetensors``), and the class of the model and the
    arguments that it was built with (``config.json``). Every tensor has to fit when it is loaded,
    unless ``strict=False`` is given; huggingface_hub's own default leaves what does not fit as it
    was.

    Raises:
        ImportError: When one of the three is called and huggingface_hub is not installed.
        ValueError: If a folder of another class is loaded.
    """

    def save_pretrained(
        self, save_directory: str | Path, *, config: Any = None, **settings: Any
    ) -> Any:
        """See :class:`huggingface_hub.ModelHubMixin`."""
        known: Any = config or self._hub_mixin_config or {}
        config = {**known, CLASS: _own_classes(type(self))[0]}
        return super().save_pretrained(save_directory, config=config, **settings)

    @classmethod
    def _from_pretrained(
        cls, *, strict: bool = True, config: dict | None = None, **settings: Any
    ) -> Any:
        # A class with keywords of any name gets all entries of the file as settings too.
        saved = settings.pop(CLASS, None) or (config or {}).get(CLASS)
        if saved is not None and saved not in _own_classes(cls):
            raise ValueError(
                f'{settings["model_id"]} holds the weights of another model: a {saved} was saved, '
                f'which {saved}.from_pretrained loads, and a {cls.__name__} was asked for'
            )
        return super()._from_pretrained(strict=strict, **settings)


def _own_classes(cls: type) -> list[str]:
    """The names of a class and its bases that are mmv2m's."""
    return [base.__name__ for base in cls.__mro__ if base.__module__.startswith('mmv2m.')]


def _refuse(method: str) -> NoReturn:
    raise ImportError(f'{method} needs huggingface_hub: pip install huggingface_hub safetensors')
