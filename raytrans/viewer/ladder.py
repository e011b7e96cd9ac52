"""From coarse to fine: the sizes in which a picture is rendered, and the rows that are rendered at a time."""

COARSEST, LARGEST_FIRST, STEP = 32, 96, 16  # long side of the first picture, in pixels, and what it is a multiple of
FIRST_SECONDS, PIECE_SECONDS = 0.4, 0.25  # a first picture, and rows after which a camera that moves is noticed, take
FIRST_GUESS = 2500.0  # rays per second, before any was measured
MEMORY = 0.5  # share of what was measured before in the estimate


class Pace:
    """Rays per second, as measured so far."""

    def __init__(self):
        self.rate = FIRST_GUESS

    def measured(self, rays: int, seconds: float) -> None:
        """Learn from a piece of work."""
        if rays > 0 and seconds > 0:
            self.rate = MEMORY * self.rate + (1 - MEMORY) * rays / seconds

    def first_side(self, aspect: float) -> int:
        """Long side of a picture that comes at once; `aspect` is the short side over the long one."""
        side = int((self.rate * FIRST_SECONDS / max(aspect, 1e-3)) ** 0.5)
        return min(LARGEST_FIRST, max(COARSEST, side // STEP * STEP))

    def piece(self) -> int:
        """Rays of a piece of work."""
        return max(256, int(self.rate * PIECE_SECONDS))


def sides(first: int, last: int) -> list[int]:
    """Long sides, each twice the one before, from `first` to exactly `last`; `last` alone where it is no larger."""
    found = [last]
    while found[0] > first:
        found.insert(0, max(first, -(-found[0] // 2)))
    return found


def bands(height: int, width: int, rays: int) -> list[tuple[int, int]]:
    """Rows of an image from top to bottom in bands (first, last + 1) of at most so many rays, and at least one row.

    Their heights are powers of two but for the last: torch keeps what it prepared for every number of rays it ever met.
    """
    rows = 2 ** (max(1, rays // width).bit_length() - 1)
    return [(start, min(start + rows, height)) for start in range(0, height, rows)]
