#!/usr/bin/env python3
"""Puts the ONNX Runtime library into a folder.

    tools/fetch_onnxruntime.py DEST

writes DEST/libonnxruntime.so, LICENSE and ThirdPartyNotices.txt, taken from the wheel onnxruntime 1.28.0 on
the Python package index: later wheels report usage data over the network. Needs nothing but Python and pip;
what is in place already is left alone, and a download is kept under ~/.cache/leann-tools.
"""

import argparse
import pathlib
import platform

import downloads

VERSION = "1.28.0"
# Machine: sha256 of the wheel, and of the library in it.
PINNED = {
    "x86_64": (
        "0a83bdb70d143cede762b677789bf2a7acca54b3fb82565601d5c30695aa933c",
        "aa4079d18f4ea7a5f3a94d80cd4bbe0f2740436626622d64d793803a20381083",
    ),
    "aarch64": (
        "4e81a23df16e7acb9d51b06d30cc098e49315ef9180f97bc2221d167b4b04d9c",
        "23a37c2994bc273e1d59a4f49af6cba5bf1cfbc29f04907ec27df375aba50a7d",
    ),
}
MEMBERS = {
    f"onnxruntime/capi/libonnxruntime.so.{VERSION}": "libonnxruntime.so",
    "onnxruntime/LICENSE": "LICENSE",
    "onnxruntime/ThirdPartyNotices.txt": "ThirdPartyNotices.txt",
}


def wheel_options(machine):
    """The library is the same in the wheels for every Python; one is named so that its hash can be pinned."""
    platforms = [f"--platform=manylinux_2_{glibc}_{machine}" for glibc in (28, 27, 17)]
    return ["--python-version=3.12", "--implementation=cp", "--abi=cp312", *platforms]


def main():
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("dest", type=pathlib.Path)
    dest = arguments.parse_args().dest
    machine = platform.machine()
    if machine not in PINNED:
        raise SystemExit(
            f"there is no ONNX Runtime pinned for {machine}: build it and name it in the settings"
        )
    wheel_digest, library_digest = PINNED[machine]
    library = dest / "libonnxruntime.so"
    if library.exists() and downloads.sha256(library) == library_digest and (dest / "LICENSE").exists():
        print(f"{library} is ONNX Runtime {VERSION} already")
        return
    archive = downloads.wheel(f"onnxruntime=={VERSION}", wheel_digest, wheel_options(machine))
    for member, name in MEMBERS.items():
        downloads.extract(archive, member, dest / name)
    if downloads.sha256(library) != library_digest:
        library.unlink()
        raise SystemExit(f"{library}: unexpected sha256, removed")
    print(f"{library}: ONNX Runtime {VERSION} for {machine}")


if __name__ == "__main__":
    main()
