"""Errors and limits that all readers of images share."""

MAX_PIXELS = 100_000_000
"""Largest picture taken. SIXray's largest has 3 million pixels; a header that claims more is an attack on memory."""


class ImageError(ValueError):
    """An image that cannot become a sample; `reason` is the fixed word of its quarantine row."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
