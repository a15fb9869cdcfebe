"""The two ways to write a task without ffmpeg's words, `options` and presets, as they go over the wire.

Which values there are is known to core/ffmpeg/form.py and the presets; here is only what kind of value each field has.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PlainValidator, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from handlers.web.wire import Wire

if TYPE_CHECKING:
    from core.ffmpeg import form
    from core.ffmpeg.preset import Preset as DomainPreset

MAX_EXTRA_ARGS = 200
MAX_PARAMETERS = 64


class Size(Wire):
    """A side that is left out follows from the other."""

    width: int | None = None
    height: int | None = None


def _number_or_text(value: Any) -> int | float | str:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        return value
    raise PydanticCustomError("number_or_text", "a number or text")


def _size(value: Any) -> str | Size:
    if isinstance(value, str | Size):
        return value
    try:
        return Size.model_validate(value)
    except ValidationError:
        raise PydanticCustomError("size", "a size") from None


# One validator for both kinds: for a union pydantic would name a field for each of its members.
NumberOrText = Annotated[
    int | float | str,
    PlainValidator(_number_or_text),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]}),
]
_SIDE = {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}
_SIZE = {"type": "object", "properties": {"width": _SIDE, "height": _SIDE}, "additionalProperties": False}
Scale = Annotated[str | Size, PlainValidator(_size), WithJsonSchema({"anyOf": [{"type": "string"}, _SIZE]})]


class Video(Wire):
    codec: str | None = Field(
        default=None,
        description="h264, hevc, av1, vp9, prores, gif, copy, or an encoder such as libx264. With `compute` gpu, "
        "h264, hevc and av1 are encoded by the card.",
    )
    crf: float | None = Field(
        default=None, description="A constant quality, in the measure of the encoder; less is better."
    )
    bitrate: NumberOrText | None = Field(
        default=None, description="Instead of crf: bits per second, or text such as 2500k or 2.5M."
    )
    fps: NumberOrText | None = Field(default=None, description="Pictures in a second: 25, or 30000/1001 as text.")
    scale: Scale | None = Field(
        default=None, description="1280x720, -2:720 (as the other side has it), or an object with width and height."
    )
    preset: NumberOrText | None = Field(default=None, description="How hard it tries: ultrafast to veryslow.")
    profile: str | None = Field(default=None, description="The profile of the codec, such as main10.")
    pixel_format: str | None = Field(default=None, description="Such as yuv420p10le, where the encoder has it.")


class Audio(Wire):
    codec: str | None = Field(
        default=None, description="aac, opus, mp3, vorbis, ac3, flac, alac, pcm, copy, or an encoder such as libopus."
    )
    bitrate: NumberOrText | None = Field(default=None, description="Bits per second, or text such as 128k.")
    channels: int | None = Field(default=None, description="How many; those of the source are mixed as needed.")
    sample_rate: int | None = Field(default=None, description="Samples in a second, such as 48000.")


class Trim(Wire):
    """Times in seconds, or as text [HH:]MM:SS[.m]; `end` or `duration`, not both."""

    start: NumberOrText | None = None
    end: NumberOrText | None = None
    duration: NumberOrText | None = None


class Options(Wire):
    """What is wished of one output of one input. What is left out is what suits the container."""

    video: Video | None = Field(default_factory=Video, description="Null: no video.")
    audio: Audio | None = Field(default_factory=Audio, description="Null: no audio.")
    container: str | None = Field(
        default=None,
        description="mp4, mov, mkv, webm, m4a, mp3, opus, wav, flac or gif; the extension of the output tells it too.",
    )
    trim: Trim | None = None
    extra_args: Annotated[list[str], Field(max_length=MAX_EXTRA_ARGS)] = Field(
        default_factory=list, description="Words of ffmpeg's own that stand before the output, judged as in a command."
    )

    def to_domain(self) -> "form.Options":
        from core.ffmpeg import form  # only here: most requests are commands

        return form.Options(
            video=_video(self.video) if self.video else None,
            audio=form.Audio(**dict(self.audio)) if self.audio else None,
            container=self.container,
            trim=form.Trim(**dict(self.trim)) if self.trim else form.Trim(),
            extra_args=tuple(self.extra_args),
        )


def _video(video: Video) -> "form.Video":
    from core.ffmpeg import form

    given = dict(video)
    if isinstance(video.scale, Size):
        given["scale"] = form.Size(**dict(video.scale))
    return form.Video(**given)


class Parameter(Wire):
    """What may be said of a preset besides its name."""

    name: str
    type: str = Field(json_schema_extra={"enum": ["integer", "number", "bitrate", "word"]})
    description: str
    default: NumberOrText
    least: float | None = Field(description="Of a number or a bit rate.")
    most: float | None
    allowed: tuple[str, ...] = Field(description="Of a word: all that it may be.")


class Preset(Wire):
    name: str
    summary: str
    extensions: tuple[str, ...] = Field(description="One of which the output must have.")
    gpu: bool = Field(description="Whether `compute` gpu has it encoded by the card.")
    looks: str | None = Field(
        description="What the worker looks for in the source before it makes the command: ladder, bitrate, loudness or "
        "sprite. Null where the command is known at once."
    )
    parameters: tuple[Parameter, ...]


class Presets(Wire):
    presets: tuple[Preset, ...]


def shown_presets(found: Mapping[str, "DomainPreset"]) -> Presets:
    from core.ffmpeg.preset import depends, uses_card

    return Presets(
        presets=tuple(
            Preset(
                name=preset.name,
                summary=preset.summary,
                extensions=preset.extensions,
                gpu=uses_card(preset),
                looks=preset.looks if depends(preset) else None,
                parameters=tuple(Parameter.model_validate(one) for one in preset.parameters),
            )
            for preset in found.values()
        )
    )
