"""Where outputs go at the caller's wish, as it goes over the wire; which places there are is for core to say."""

from pydantic import Field

from core import destination
from handlers.web.wire import Wire


class Destination(Wire):
    """A bucket, and below which prefix of it; each file is stored there as task_id/attempt/filename."""

    bucket: str = Field(description="One of those that the operator of the service lists.")
    prefix: str = Field(
        default="", description="Names with slashes between them, like `shows/42`; at most 255 bytes in UTF-8."
    )

    def to_domain(self) -> destination.Destination:
        return destination.Destination(bucket=self.bucket, prefix=self.prefix)
