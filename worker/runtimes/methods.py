"""What archives can do, as their methods are called."""

from enum import StrEnum


class Method(StrEnum):
    """A method of an archive: see `StyleTrunk`. The first is all that upscalers have, and trunks of old."""

    FORWARD = "forward"
    SURVEY_DOWN = "survey_down"
    DOWN_HELD = "down_held"
    BLOCK_FIRST = "block_first"
    BLOCK_SECOND = "block_second"
    BLOCK_SUM = "block_sum"
    SURVEY_UP = "survey_up"
    UP_HELD = "up_held"

    @property
    def is_exact(self) -> bool:
        """Whether it is computed in float32 whatever the runtime's precision.

        Errors before the blocks would be amplified, those of statistics count for all tiles, and a sum costs nothing.
        """
        return self in (Method.SURVEY_DOWN, Method.DOWN_HELD, Method.BLOCK_SUM, Method.SURVEY_UP)

    def name_in_archive(self, block: int) -> str:
        """The method's name; each residual block has its own."""
        is_of_block = self in (Method.BLOCK_FIRST, Method.BLOCK_SECOND, Method.BLOCK_SUM)
        return f"{self}_{block}" if is_of_block else str(self)
