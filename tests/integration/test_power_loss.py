"""A conversion on a file system that loses all that was not synced, at any moment, ends with the bytes of a quiet one.

The kernel shuts ext4 on a loop device down without writing its journal or its pages (`godown` of xfstests): what the
process had not synced is gone once it is mounted again.
"""

import contextlib
import fcntl
import os
import random
import shutil
import struct
import subprocess
import time

import pytest

from tests.corpora import files_of, make_corpus
from tests.processes import start_command

EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, struct.pack("I", 2)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("mkfs.ext4") or not os.access("/dev/loop-control", os.W_OK),
        reason="needs root, mkfs.ext4 and loop devices",
    ),
]


@contextlib.contextmanager
def mounted(image, folder):
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def cut_power(folder):
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
    finally:
        os.close(fd)


def convert(corpus, output):
    # In one process: another that outlives it for a moment would keep the disk mounted.
    words = ["--input", corpus, "--output", output, "--shard-bytes=15000"]
    return start_command("pipelines.convert", words, corpus.parent / "log.txt", user=os.geteuid())


def finish(process):
    process.join()
    assert process.exitcode == 0


def test_a_conversion_whose_file_system_loses_power_ends_with_the_same_bytes(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", num_train=120, num_test=30).root
    finish(convert(corpus, tmp_path / "quiet"))
    expected = files_of(tmp_path / "quiet")
    image, folder = tmp_path / "disk.img", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as out:
        out.truncate(128 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    moments = random.Random(1)
    for num_shards in (0, 1, 3, 5, 7):
        with mounted(image, folder):
            process = convert(corpus, folder / "ds")
            while process.is_alive() and len(list(folder.glob("ds/*/*.tar"))) < num_shards:
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.1))
            cut_power(folder)
            process.kill()
            process.join()
            assert process.exitcode != 0
    with mounted(image, folder):
        finish(convert(corpus, folder / "ds"))
        cut_power(folder)
    with mounted(image, folder):
        assert files_of(folder / "ds") == expected
