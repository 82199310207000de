"""Define the errors and limits shared by all readers of images."""

MAX_PIXELS = 100_000_000
"""Largest accepted image. SIXray's largest has 3 million pixels; a larger header is an attack on memory."""


class ImageError(ValueError):
    """An image that cannot become a sample; `reason` is the fixed word of its quarantine row."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
