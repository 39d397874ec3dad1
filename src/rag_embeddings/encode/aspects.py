"""What an encoder says of itself when others do its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rag_embeddings.encode.base import aspect

if TYPE_CHECKING:
    from rag_embeddings.encode.base import Encoder


class InnerAspects:
    """Base of encoders around others: says what those inside say of themselves beyond their profiles.

    Attributes:
        encoder: The one inside, unless there are several.
    """

    encoder: Encoder

    def _inside(self) -> tuple[Encoder, ...]:
        return (self.encoder,)

    @property
    def precision(self) -> str:
        """The number formats that the encoders inside calculate with, as far as they say."""
        return aspect("precision", *self._inside())

    @property
    def too_long(self) -> str:
        """What the encoders inside do to a text over their limit, as far as they say."""
        return aspect("too_long", *self._inside())

    @property
    def variant(self) -> str:
        """Whatever else sets the vectors of the encoders inside apart."""
        return aspect("variant", *self._inside())
