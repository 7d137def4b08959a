"""What archives can do, as their methods are called."""

from enum import StrEnum


class Method(StrEnum):
    """A method of an archive: see `StyleTrunk`. The first is all that upscalers have, and trunks of old."""

    FORWARD = "forward"
    DOWN_SURVEY = "down_survey"
    DOWN_SECOND = "down_second"
    DOWN_THIRD = "down_third"
    DOWN_END = "down_end"
    BLOCK_FIRST = "block_first"
    BLOCK_SECOND = "block_second"
    BLOCK_SUM = "block_sum"
    UP_BEGIN = "up_begin"
    UP_SURVEY = "up_survey"
    UP_END = "up_end"

    @property
    def is_exact(self) -> bool:
        """Whether it is computed in float32 whatever the runtime's precision.

        Errors before the blocks would be amplified, those of statistics count for all tiles, and a sum costs nothing.
        """
        return self in (
            Method.DOWN_SURVEY,
            Method.DOWN_SECOND,
            Method.DOWN_THIRD,
            Method.DOWN_END,
            Method.BLOCK_SUM,
            Method.UP_SURVEY,
        )

    def name_in_archive(self, block: int) -> str:
        """The method's name; each residual block has its own."""
        is_of_block = self in (Method.BLOCK_FIRST, Method.BLOCK_SECOND, Method.BLOCK_SUM)
        return f"{self}_{block}" if is_of_block else str(self)
