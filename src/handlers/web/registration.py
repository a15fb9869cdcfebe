"""What a caller asks for when it registers or validates a task, as it goes over the wire."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from core import register
from core.errors import InvalidArgument
from handlers.web import examples
from handlers.web.destination import Destination
from handlers.web.options import MAX_PARAMETERS, NumberOrText, Options
from handlers.web.wire import Wire

MAX_FILES = 64

InputFiles = Annotated[dict[str, str], Field(max_length=MAX_FILES)]
Metadata = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=256)]],
    Field(max_length=10),
]


class Registration(Wire):
    """What is to be done, in exactly one of `command`, `options` and `preset`, or in none where the service has a
    default preset; its inputs by name; and exactly one of `output_filename` and `output_files`.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [examples.REGISTRATION]})

    command: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="The ffmpeg command, written with the names of `input_files` and of the outputs. "
        "A leading `ffmpeg` is allowed.",
    )
    options: Options | None = Field(
        default=None, description="Instead of a command, what is wished of one output of one input."
    )
    preset: str | None = Field(
        default=None, description="Instead of a command, the name of one that is kept ready, for one input and output."
    )
    parameters: Annotated[dict[str, NumberOrText], Field(max_length=MAX_PARAMETERS)] | None = Field(
        default=None, description="What the preset leaves open; each has a default."
    )
    input_files: InputFiles = Field(
        description="Each name in the command, and the URL its bytes come from: http, https, or `upload:ID`; where the "
        "operator lists some, s3 of a bucket or file of a folder. Empty only when all that the command reads is made "
        "by `-f lavfi`."
    )
    output_filename: str | None = Field(default=None, description="The one file that the command writes.")
    output_files: Annotated[list[str], Field(min_length=1, max_length=MAX_FILES)] | None = Field(
        default=None, description="The files that the command writes, each once, where there are several."
    )
    callback_url: str | None = Field(
        default=None,
        description="Where to POST the task, as status shows it, when it has ended: signed, and sent again for a day.",
    )

    compute: Literal["auto", "gpu", "cpu"] = Field(
        default="auto",
        description="What kind of worker runs it. `auto`: a GPU where the command names NVENC or CUDA, else none.",
    )
    gpu_fallback: bool = Field(
        default=False,
        description="Run the command in its CPU form (libx264 for h264_nvenc, scale for scale_cuda, and so on) where "
        "no GPU can run it. The attempt says so, and which command it was.",
    )

    timeout_seconds: int | None = Field(
        default=None, ge=1, description="The most that each run of ffmpeg may take; by default what the service allows."
    )
    metadata: Metadata = Field(
        default_factory=dict,
        description="Words of your own, shown wherever the task is: at most 10, names of 1 to 64 characters, texts of "
        "at most 256.",
    )
    destination: Destination | None = Field(
        default=None,
        description="Where the outputs go in the place of the service's own bucket. There they stay until they are "
        "deleted by their owner, or by you.",
    )

    def to_domain(self) -> register.Registration:
        """Raises InvalidArgument unless it is written in one way at most, and the outputs in exactly one, each once."""
        if sum(way is not None for way in (self.command, self.options, self.preset)) > 1:
            raise _fault("command", register.ONE_WAY)
        if self.parameters is not None and self.preset is None:
            raise _fault("parameters", "parameters go with a preset: name one, or leave them out.")
        return register.Registration(
            command=self.command or "",
            options=self.options.to_domain() if self.options else None,
            preset=self.preset,
            parameters=self.parameters,
            input_files=self.input_files,
            output_files=self._output_names(),
            callback_url=self.callback_url,
            compute=self.compute,
            gpu_fallback=self.gpu_fallback,
            timeout_seconds=self.timeout_seconds,
            metadata=self.metadata,
            destination=self.destination.to_domain() if self.destination else None,
        )

    def _output_names(self) -> tuple[str, ...]:
        if (self.output_filename is None) == (self.output_files is None):
            raise _fault("output_filename", "Give exactly one of output_filename and output_files.")
        names = (self.output_filename,) if self.output_filename is not None else tuple(self.output_files or ())
        if len(set(names)) != len(names):
            raise _fault("output_files", "output_files names a file twice.")
        return names


def _fault(field: str, message: str) -> InvalidArgument:
    return InvalidArgument(message, details={"field": field})
