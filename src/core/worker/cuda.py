"""The program that asks NVIDIA's driver whether it and a card are ready; prints what it says in a few words.

A card may be visible without its driver's libraries, and these without a card that works: each is a fault of the
machine or of how the container was started, and looks the same to whoever only sees ffmpeg fail.
"""

import ctypes

# CUresult of cuda.h
_WORDS = {0: "ready", 3: "the driver is not initialised", 34: "the library is a stub", 100: "there is no card"}


def main() -> str:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no libcuda.so.1"
    result = int(driver.cuInit(0))
    return _WORDS.get(result, f"cuInit answers {result}")


if __name__ == "__main__":
    print(main())  # noqa: T201 - the answer to whoever started this program
