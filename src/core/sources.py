"""From where a file lies to what a batch calls it, and which files of a listing are media."""

from urllib.parse import unquote

from core.batch import Source
from core.ffmpeg import names
from core.ffmpeg.values import words

MOST_CHARACTERS = 80  # of a name, so that there is room for what a template adds
# What players and cameras write; a picture beside it is most likely its cover.
MEDIA = words(
    """
    3g2 3gp aac ac3 aif aiff amr ape asf avi caf dts dv eac3 f4v flac flv gxf ivf lrv m1v m2ts m2v m4a m4b m4v mka mkv
    mov mp2 mp3 mp4 mpeg mpg mts mxf nut oga ogg ogm ogv opus ra rm rmvb ts vob w64 wav webm wma wmv wtv wv y4m
    """
)


def source(url: str, size_bytes: int | None = None) -> Source:
    """The source, named by the last part of the URL's path; a key in a bucket is a path as it is written."""
    if url.startswith("s3://"):
        return Source(called(url.rpartition("/")[2]), url, size_bytes)
    place = url.partition("?")[0] if "?" in url else url
    last = place.partition("#")[0].rstrip("/").rpartition("/")[2]
    return Source(called(unquote(last) if "%" in last else last), url, size_bytes)


def called(text: str) -> str:
    """What a file of that name is called in commands; that of an output which is made of it has an extension, too."""
    name = names.legal(text, most=MOST_CHARACTERS)
    stem, _, extension = name.rpartition(".")
    return f"{stem.rstrip('.')}.{extension}" if stem.endswith(".") else name


def is_media(path: str) -> bool:
    return path.rpartition(".")[2].lower() in MEDIA and not path.rpartition("/")[2].startswith(".")
