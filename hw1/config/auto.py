"""The word `auto` in a recipe: what is left to the weights or to the device."""

from typing import Any

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

AUTO: Any = "auto"


class OrAuto:
    """Marks a key that a recipe may leave to the weights: `auto`.

    The type leaves it out, because `hw1.models.resolve` puts the value in its place before anything computes with it.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Accept the word beside the type's own values."""
        return core_schema.union_schema([handler(source), core_schema.literal_schema([AUTO])])


class OrAutoBatchSize:
    """Marks `data.batch_size`, which a recipe may leave to the device: `auto`, or `auto:N`, where N is the number that `auto` stands over.

    The type leaves it out, because `hw1.training.batch_size` puts a number in its place before anything computes with it.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Accept the words beside the type's own values."""
        return core_schema.union_schema([handler(source), core_schema.str_schema(pattern=rf"^{AUTO}(:[1-9][0-9]{{0,4}})?$")])


AUTO_KEYS = ("size", "crop_pct", "interpolation", "mean", "std")
"""Keys of `aug` whose default in a recipe is `auto`."""
AUTO_BY_DEFAULT = Field(json_schema_extra={"default": AUTO})
